"""The outcome queue shows a message again only when its function has had its time for it, and some more."""

from __future__ import annotations

from tests.support.resolved_template import of_type


def test_a_message_is_shown_again_after_six_times_the_functions_time_out() -> None:
    """As AWS asks for, so that there is time for retries; a batching window comes on top.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    """
    [mapping] = of_type("AWS::Lambda::EventSourceMapping", {}).values()
    ends = (mapping["EventSourceArn"], mapping["FunctionName"])
    assert ends == ("Arn-of-OutcomeQueue", "id-of-SettleOutcomeFunction")
    visible_after = int(of_type("AWS::SQS::Queue", {})["OutcomeQueue"]["VisibilityTimeout"])
    timeout = int(of_type("AWS::Lambda::Function", {})["SettleOutcomeFunction"]["Timeout"])
    assert visible_after >= 6 * timeout + int(mapping.get("MaximumBatchingWindowInSeconds", 0))
