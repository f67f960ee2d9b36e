"""What runs inside the pods of a pipeline run: each step creates or adopts one SageMaker thing and waits for it.

The package stands alone (boto3 and the standard library), because it is all that the steps' image contains.
"""
