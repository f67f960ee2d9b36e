"""Data sets: from the MNIST pickle to what SageMaker's built-in algorithms read."""
