"""Adds up the orders and the turnover of each day.

Every message counts once, because inbox_accept() is called in the transaction of the sums.

    python -m venv .venv && .venv/bin/pip install -r requirements.txt
    .venv/bin/python sales.py
"""

import os
import signal
import sys
import time

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition

CONSUMER = "sales"
COMMIT_EVERY = 1.0  # seconds between two commits of offsets

TABLE = """
CREATE TABLE IF NOT EXISTS sales (day date PRIMARY KEY, orders bigint NOT NULL, cents bigint NOT NULL)"""

EFFECT = """
INSERT INTO sales (day, orders, cents)
SELECT ((event ->> 'at')::timestamptz AT TIME ZONE 'UTC')::date, %(sign)s, %(sign)s * (event ->> 'cents')::bigint
  FROM (SELECT convert_from(%(payload)s, 'UTF8')::jsonb AS event) AS record
ON CONFLICT (day) DO UPDATE SET orders = sales.orders + excluded.orders, cents = sales.cents + excluded.cents"""

SIGNS = {"OrderPlaced": 1, "OrderCancelled": -1}


class Sales:
    def __init__(self, database_url: str, brokers: str, topic: str):
        self.database_url = database_url
        self.topic = topic
        self.database = None
        # partition -> next offset; what is before it is done, and not committed yet
        self.done: dict[int, int] = {}
        self.committed_at = time.monotonic()
        self.stopping = False
        self.consumer = Consumer({
            "bootstrap.servers": brokers,
            "group.id": CONSUMER,
            "isolation.level": "read_committed",
            # An offset is committed once the database has committed, never by the clock.
            "enable.auto.commit": False,
            # The default, latest, would skip what came before the first start, and what a new
            # partition already holds.
            "auto.offset.reset": "earliest",
        })

    def run(self) -> None:
        self.connect()
        with self.database.transaction():
            self.database.execute(TABLE)
        self.consumer.subscribe([self.topic], on_revoke=self.revoked, on_lost=self.lost)
        print("sales: waits for messages", flush=True)
        try:
            while not self.stopping:
                message = self.consumer.poll(0.5)
                if message is not None and message.error():
                    # librdkafka goes on by itself; a topic that does not exist yet is one of these.
                    print(f"sales: {message.error()}", file=sys.stderr, flush=True)
                elif message is not None:
                    self.attempt(message)
                if time.monotonic() - self.committed_at >= COMMIT_EVERY:
                    self.commit_offsets()
            print("sales: told to stop", flush=True)
        finally:
            self.commit_offsets()
            self.consumer.close()
            self.database.close()

    def attempt(self, message) -> None:
        """Handles a message. If it fails, it is read again, and so is all that follows it."""
        try:
            self.handle(message)
        except (psycopg.Error, ValueError) as error:
            print(f"sales: {message.partition()}/{message.offset()}: {error}; tried again", file=sys.stderr, flush=True)
            self.consumer.seek(TopicPartition(self.topic, message.partition(), message.offset()))
            time.sleep(1)
            return
        self.done[message.partition()] = message.offset() + 1

    def handle(self, message) -> None:
        """The mark and the effect, in one transaction."""
        if self.database.closed:
            self.connect()
        headers = dict(message.headers() or [])
        for name in ("msg_id", "source", "type"):
            if headers.get(name) is None:
                raise ValueError(f"the record has no header {name}")
        msg_id, source, kind = (headers[name].decode() for name in ("msg_id", "source", "type"))
        # If an exception leaves the block, it rolls back. If the commit itself fails, it may have
        # happened: then the mark is there the next time.
        with self.database.transaction():
            (fresh,) = self.database.execute("SELECT inbox_accept(%s, %s, %s)", (CONSUMER, source, msg_id)).fetchone()
            if not fresh:
                print(f"sales: {msg_id} was handled before", flush=True)
            elif kind in SIGNS:
                self.database.execute(EFFECT, {"sign": SIGNS[kind], "payload": message.value()})

    def connect(self) -> None:
        # autocommit: transactions are begun by transaction() and by nothing else.
        self.database = psycopg.connect(self.database_url, autocommit=True)

    def commit_offsets(self) -> None:
        self.committed_at = time.monotonic()
        if not self.done:
            return
        offsets = [TopicPartition(self.topic, partition, offset) for partition, offset in self.done.items()]
        try:
            self.consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # Tried again later. What somebody else reads again meanwhile has its mark.
            print(f"sales: offsets are not committed yet: {error}", file=sys.stderr, flush=True)
            return
        self.done.clear()

    def revoked(self, _consumer, partitions) -> None:
        """The partitions go to another member. Nothing is in flight: poll calls this."""
        self.commit_offsets()
        self.lost(_consumer, partitions)

    def lost(self, _consumer, partitions) -> None:
        """They are gone already; somebody else commits for them."""
        for partition in partitions:
            self.done.pop(partition.partition, None)

    def stop(self, _signal, _frame) -> None:
        self.stopping = True


def main() -> None:
    sales = Sales(
        os.environ.get("SALES_DATABASE_URL", "postgres://postgres:postgres@127.0.0.1:5432/sales"),
        os.environ.get("SALES_BROKERS", "127.0.0.1:9092"),
        os.environ.get("SALES_TOPIC", "outbox.event.order"),
    )
    signal.signal(signal.SIGTERM, sales.stop)
    signal.signal(signal.SIGINT, sales.stop)
    sales.run()


if __name__ == "__main__":
    main()
