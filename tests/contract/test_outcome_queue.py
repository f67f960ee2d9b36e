"""The outcome queue shows a message again only when its function has had its time for it, and as often as it says."""

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


def test_a_message_stays_until_it_was_shown_as_often_as_may_be_and_is_set_aside() -> None:
    """One that the queue forgets before is in no dead-letter queue, and nobody is told of it.

    Its age counts on in the dead-letter queue, which therefore keeps messages for longer:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/setting-up-dead-letter-queue-retention.html
    """
    queues = of_type("AWS::SQS::Queue", {})
    outcomes, set_aside = queues["OutcomeQueue"], queues["DeadLetterQueue"]
    last_shown = outcomes["RedrivePolicy"]["maxReceiveCount"] * outcomes["VisibilityTimeout"]
    assert outcomes["RedrivePolicy"]["deadLetterTargetArn"] == "Arn-of-DeadLetterQueue"
    assert last_shown < outcomes["MessageRetentionPeriod"] < set_aside["MessageRetentionPeriod"]
