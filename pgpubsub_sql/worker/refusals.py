"""What is told to a message that did not leave its connection as it found it."""

QUERY_FAILED = (
    "A query failed, and the listener caught the error and went on. In PostgreSQL the whole "
    "transaction has failed then: put what may fail into a transaction.atomic() block of its own."
)
QUERY_RUNNING = (
    "The listener returned while a query of its own was still running on the connection of its "
    "message. Let it wait for the threads that use this connection."
)
CONNECTION_CLOSED = (
    "The listener closed the connection that its message is handled on, which undoes what it has "
    "written. Leave this connection open."
)
MARKED_FOR_ROLLBACK = (
    "The transaction was marked for rollback: by set_rollback(True), or by an error that was "
    "caught outside its atomic(savepoint=False) block. To undo a part of what a listener does, use "
    "atomic() without savepoint=False."
)
BLOCK_LEFT_OPEN = (
    "The listener entered an atomic block and did not leave it. Use it in a with statement or as a "
    "decorator."
)
ROLLED_BACK = (
    "The listener rolled back the transaction of its message by ROLLBACK. To undo what it has "
    "done, raise an exception, or use transaction.atomic()."
)

SETTINGS_CHANGED = (
    "A plain query of a listener has changed settings of the session ({}), as a trigger or a rule "
    "can, and messages after it may have seen that. From now on, settings are restored after every "
    "message that queries."
)
