"""The figures of these pages: ``:::{drawing} life`` puts one on a page.

They are 400 units wide, about as many pixels as a phone has.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from drawings import Arrow, Box, Drawing, Frame, Text
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def life() -> Drawing:
    ready = Box(140, 46, 120, 42, "ready")
    waiting = Box(2, 196, 92, 42, "waiting")
    in_flight = Box(140, 196, 120, 42, "in flight", style="box accent")
    parked = Box(306, 196, 92, 42, "parked")
    handled = Box(130, 336, 140, 50, "handled", "its row is deleted")
    return Drawing(
        title="Life of a stored message",
        description=(
            "A message is ready once its sender has committed. One sent with a delay is waiting, "
            "and becomes ready when it is due. A worker claims a ready message: it is in flight. "
            "If its listeners return and the worker commits, it is handled and its row is deleted. "
            "If an attempt fails, it waits for the next one. If the last attempt fails, or no "
            "worker can read it, it is parked until somebody replays it. If the worker dies or "
            "gives it back, it is ready again."
        ),
        width=400,
        height=390,
        shapes=(
            Text(200, 14, "sent, and committed"),
            Arrow(((200, 20), ready.top)),
            ready,
            Arrow(((180, 88), (180, 196))),
            Text(172, 136, "claimed by\na worker", "end"),
            Arrow(((220, 196), (220, 88)), style="arrow dashed"),
            Text(228, 136, "given back, or\nworker died", "start"),
            waiting,
            in_flight,
            parked,
            Arrow((waiting.top, (48, 67), ready.left)),
            Text(94, 58, "due, or retry"),
            Arrow((parked.top, (352, 67), ready.right)),
            Text(306, 58, "replay"),
            Arrow((in_flight.left, waiting.right)),
            Text(106, 258, "attempt\nfails"),
            Arrow((in_flight.right, parked.left)),
            Text(304, 258, "last attempt fails,\nor unreadable"),
            Arrow((in_flight.bottom, handled.top)),
            Text(208, 306, "listeners return, COMMIT", "start"),
            handled,
            Arrow(((30, 290), (30, 238))),
            Text(2, 308, "sent with a\ndelay", "start"),
        ),
    )


def kinds() -> Drawing:
    sender = Box(2, 34, 396, 50, "a sender commits", "notify(), SQL, or a write to a watched table")
    table = Box(2, 130, 188, 68, "table", "the message waits\nuntil a worker is free")
    one = Box(2, 244, 188, 50, "one worker", "whichever is free", "box accent")
    queue = Box(210, 130, 188, 68, "NOTIFY", "who listens now hears it;\nnothing is kept")
    every = [Box(x, 244, 60, 50, "", "process", "box accent") for x in (210, 274, 338)]
    return Drawing(
        title="Durable and ephemeral channels",
        description=(
            "When the sender commits, a durable channel stores the message in a table, where it "
            "waits until a worker is free. One worker handles it; what its listeners write to this "
            "database happens exactly once. If it fails, it is retried, then parked. An ephemeral "
            "channel sends a NOTIFY. Every process that listens at that moment handles it, at most "
            "once; nothing is kept. If it fails, the failure is logged."
        ),
        width=400,
        height=342,
        shapes=(
            Text(96, 18, "durable", style="name"),
            Text(304, 18, "ephemeral", style="name"),
            sender,
            Arrow(((96, 84), table.top)),
            Text(104, 112, "INSERT", "start"),
            table,
            Arrow((table.bottom, one.top)),
            Text(104, 226, "claim", "start"),
            one,
            Text(96, 318, "exactly once in this database\nfailed: retried, then parked"),
            Arrow(((304, 84), queue.top)),
            Text(312, 112, "NOTIFY", "start"),
            queue,
            *(Arrow(((process.top[0], 198), process.top)) for process in every),
            *every,
            Text(304, 318, "at most once in each process\nfailed: logged"),
        ),
    )


def way() -> Drawing:
    write = Box(90, 18, 220, 50, "INSERT, UPDATE, DELETE", "from Django, psql, anything")
    trigger = Box(90, 104, 220, 50, "trigger", "turns rows into JSON")
    table = Box(16, 198, 168, 50, "table", "a row per message")
    bell = Box(216, 198, 168, 50, "doorbell", "a NOTIFY without data")
    worker = Box(90, 338, 220, 50, "worker", "claims rows, makes instances", "box accent")
    listener = Box(90, 424, 220, 50, "your listener", "welcome(old, new)", "box accent")
    return Drawing(
        title="From a write to the listener",
        description=(
            "In the sender's transaction a write fires the channel's trigger, which turns the rows "
            "into JSON, stores a row for each message in a table, and rings the doorbell: a NOTIFY "
            "without data. PostgreSQL delivers both at COMMIT. The doorbell wakes a worker, which "
            "claims rows of the table in a transaction of its own and calls your listener. At its "
            "COMMIT the message is gone, and what the listener wrote is there."
        ),
        width=400,
        height=542,
        shapes=(
            Frame(2, 2, 396, 278, "sender's transaction"),
            write,
            Arrow((write.bottom, trigger.top)),
            Text(208, 90, "fires", "start"),
            trigger,
            Arrow(((130, 154), (100, 198))),
            Text(104, 180, "stores", "end"),
            Arrow(((270, 154), (300, 198))),
            Text(296, 180, "rings", "start"),
            table,
            bell,
            Text(388, 268, "COMMIT", "end", "name"),
            Frame(2, 318, 396, 196, "worker's transaction"),
            Arrow(((164, 248), (176, 338))),
            Text(160, 304, "claimed by", "end"),
            Arrow(((236, 248), (224, 338)), style="arrow dashed"),
            Text(240, 304, "wakes", "start"),
            worker,
            Arrow((worker.bottom, listener.top)),
            Text(208, 410, "calls", "start"),
            listener,
            Text(388, 502, "COMMIT", "end", "name"),
            Text(200, 534, "The message is gone, the listener's writes are there."),
        ),
    )


def batch() -> Drawing:
    claim = Box(20, 18, 360, 50, "claim", "DELETE the rows of up to 2,000 ready messages")
    first = Box(20, 82, 360, 50, "message 1: listeners return", "what they wrote stays")
    second = Box(
        20,
        146,
        360,
        50,
        "message 2: a listener raises",
        "rolled back to its savepoint",
        "box accent",
    )
    third = Box(20, 210, 360, 50, "message 3: listeners return", "what they wrote stays")
    over = Box(
        20,
        274,
        360,
        50,
        "50 ms or 60 savepoints are over",
        "messages 4 to 10 are not reached",
        "box faint",
    )
    back = Box(
        20,
        338,
        360,
        68,
        "put back",
        "2: one more attempt, and when it is due\n4 to 10: as they were",
    )
    after = Box(20, 470, 360, 50, "after COMMIT", "on_commit callbacks, signals, log")
    return Drawing(
        title="What one transaction of a worker holds",
        description=(
            "One transaction claims up to 2,000 ready messages: it deletes their rows. "
            "Each message has a savepoint: what the listeners of messages 1 and 3 wrote stays, and "
            "message 2, whose listener raised, is rolled back to its savepoint. After 50 ms or 60 "
            "savepoints the batch ends. Message 2 is put back with one more attempt and the time "
            "when it is due, messages 4 to 10, which were not reached, as they were. COMMIT makes "
            "all of it permanent, or none. Callbacks, signals and the log follow."
        ),
        width=400,
        height=524,
        shapes=(
            Frame(2, 2, 396, 440, "one transaction"),
            *(claim, first, second, third, over, back),
            *(
                Arrow((above.bottom, below.top))
                for above, below in zip(
                    (claim, first, second, third, over),
                    (first, second, third, over, back),
                    strict=True,
                )
            ),
            Text(388, 430, "COMMIT: all of it, or none", "end", "name"),
            Arrow(((200, 442), after.top)),
            after,
        ),
    )


def subscriptions() -> Drawing:
    sender = Box(90, 18, 220, 50, "a sender commits", "one message, one statement")
    names = Box(250, 118, 148, 50, "subscriptions", "which are registered?", "box faint")
    rows = [
        Box(x, 222, 124, 50, name, "a row")
        for x, name in ((2, "(no name)"), (138, "mail"), (274, "search"))
    ]
    ends = [
        Box(2, 330, 124, 50, "handled", "row deleted", "box accent"),
        Box(138, 330, 124, 50, "waiting", "attempt 3 of 10"),
        Box(274, 330, 124, 50, "paused", "row stays"),
    ]
    return Drawing(
        title="One message for three subscriptions",
        description=(
            "A sender commits one message. The statement that stores it looks up which "
            "subscriptions are registered, and stores a row for each: for listeners without a "
            "subscription, for mail and for search. Then each goes its own way: one row is handled "
            "and deleted, one waits for its next attempt, one stays because its subscription is "
            "paused. All three share the number of the message."
        ),
        width=400,
        height=412,
        shapes=(
            sender,
            Arrow(((200, 68), (200, 190))),
            Text(192, 112, "INSERT … SELECT", "end"),
            names,
            Arrow((names.left, (202, 143)), style="arrow dashed"),
            *(Arrow(((200, 190), row.top)) for row in rows),
            *rows,
            *(Arrow((row.bottom, end.top)) for row, end in zip(rows, ends, strict=True)),
            Text(200, 306, "each in batches of its own"),
            *ends,
            Text(200, 402, "all three share the number of the message"),
        ),
    )


DRAWINGS = {
    "life": life(),
    "kinds": kinds(),
    "way": way(),
    "batch": batch(),
    "subscriptions": subscriptions(),
}


class DrawingDirective(SphinxDirective):
    """A figure; the body of the directive is its caption."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        figure = nodes.figure(classes=["drawing"])
        figure += nodes.raw("", DRAWINGS[name].svg(name), format="html")
        caption = nodes.caption()
        caption += self.parse_inline(" ".join(self.content))[0]
        figure += caption
        return [figure]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive with Sphinx."""
    app.add_directive("drawing", DrawingDirective)
    return {"parallel_read_safe": True}
