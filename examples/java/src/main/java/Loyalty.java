import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Gives a customer a point for each full unit of money of an order, and takes them back when the
 * order is cancelled. Points are added up, so an effect that happened twice would show:
 * inbox_accept() in the same transaction prevents it.
 */
public final class Loyalty implements ConsumerRebalanceListener {
    private static final String CONSUMER = "loyalty";

    private static final String TABLE = """
        CREATE TABLE IF NOT EXISTS loyalty_points (customer text PRIMARY KEY, points bigint NOT NULL)""";

    /** Postgres reads the JSON, so no library does. */
    private static final String EFFECT = """
        INSERT INTO loyalty_points (customer, points)
        SELECT event ->> 'customer', (CASE ? WHEN 'OrderPlaced' THEN 1 ELSE -1 END) * ((event ->> 'cents')::bigint / 100)
          FROM (SELECT convert_from(?, 'UTF8')::jsonb AS event) AS record
        ON CONFLICT (customer) DO UPDATE SET points = loyalty_points.points + excluded.points""";

    private final String databaseUrl;
    private final String topic;
    private final KafkaConsumer<byte[], byte[]> consumer;

    /** For each partition the next offset: what is before it is done, and not committed yet. */
    private final Map<TopicPartition, OffsetAndMetadata> done = new HashMap<>();

    private Connection database;

    private Loyalty(String databaseUrl, String brokers, String topic) {
        this.databaseUrl = databaseUrl;
        this.topic = topic;
        Properties settings = new Properties();
        settings.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        settings.put(ConsumerConfig.GROUP_ID_CONFIG, CONSUMER);
        // The default, read_uncommitted, would also show what a relay wrote and then aborted.
        settings.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
        // An offset is committed once the database has committed, never by the clock.
        settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        // The default, latest, would skip what came before the first start, and what a new
        // partition already holds.
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    public static void main(String[] arguments) throws Exception {
        Loyalty loyalty = new Loyalty(
            environment("LOYALTY_JDBC_URL", "jdbc:postgresql://127.0.0.1:5432/loyalty?user=postgres&password=postgres"),
            environment("LOYALTY_BROKERS", "127.0.0.1:9092"),
            environment("LOYALTY_TOPIC", "outbox.event.order"));
        CountDownLatch ended = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            loyalty.consumer.wakeup();
            try {
                ended.await();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }));
        try {
            loyalty.run();
        } finally {
            ended.countDown();
        }
    }

    private static String environment(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }

    private void run() throws Exception {
        try {
            connect();
            try (var statement = database.createStatement()) {
                statement.execute(TABLE);
            }
            consumer.subscribe(List.of(topic), this);
            System.out.println("loyalty: waits for messages");
            while (true) {
                handle(consumer.poll(Duration.ofSeconds(1)));
                commitOffsets();
            }
        } catch (WakeupException e) {
            System.out.println("loyalty: told to stop");
        } finally {
            consumer.close(); // calls the listener, which commits the last offsets
            if (database != null) {
                database.close();
            }
        }
    }

    /** Handles each partition in order. What fails is read again, and so is all that follows it. */
    private void handle(ConsumerRecords<byte[], byte[]> records) throws InterruptedException {
        for (TopicPartition partition : records.partitions()) {
            for (ConsumerRecord<byte[], byte[]> record : records.records(partition)) {
                try {
                    handle(record);
                } catch (SQLException | IllegalArgumentException e) {
                    System.err.printf("loyalty: %s offset %d: %s; tried again%n", partition, record.offset(), e.getMessage());
                    consumer.seek(partition, record.offset());
                    Thread.sleep(1000);
                    break;
                }
                done.put(partition, new OffsetAndMetadata(record.offset() + 1));
            }
        }
    }

    /** Handles one message in one transaction: the mark, the effect, commit. */
    private void handle(ConsumerRecord<byte[], byte[]> record) throws SQLException {
        String id = header(record, "msg_id");
        String source = header(record, "source");
        String type = header(record, "type");
        if (database.isClosed()) {
            connect();
        }
        try {
            if (accept(source, id)) {
                apply(type, record.value());
            } else {
                System.out.printf("loyalty: %s was handled before%n", id);
            }
            database.commit();
        } catch (SQLException e) {
            try {
                database.rollback();
            } catch (SQLException lost) {
                e.addSuppressed(lost); // the connection is gone, and the transaction with it
            }
            throw e; // if the commit happened all the same, the mark is there the next time
        }
    }

    /** The first statement of the transaction. False: the message had its effect before. */
    private boolean accept(String source, String id) throws SQLException {
        try (PreparedStatement accept = database.prepareStatement("SELECT inbox_accept(?, ?, ?)")) {
            accept.setString(1, CONSUMER);
            accept.setString(2, source);
            accept.setString(3, id);
            try (ResultSet result = accept.executeQuery()) {
                result.next();
                return result.getBoolean(1);
            }
        }
    }

    private void apply(String type, byte[] payload) throws SQLException {
        if (!type.equals("OrderPlaced") && !type.equals("OrderCancelled")) {
            return; // not ours; the mark stands all the same
        }
        try (PreparedStatement effect = database.prepareStatement(EFFECT)) {
            effect.setString(1, type);
            effect.setBytes(2, payload);
            effect.executeUpdate();
        }
    }

    private static String header(ConsumerRecord<byte[], byte[]> record, String name) {
        Header header = record.headers().lastHeader(name);
        if (header == null || header.value() == null) {
            throw new IllegalArgumentException("the record has no header " + name);
        }
        return new String(header.value(), StandardCharsets.UTF_8);
    }

    private void connect() throws SQLException {
        database = DriverManager.getConnection(databaseUrl);
        database.setAutoCommit(false);
    }

    private void commitOffsets() {
        if (done.isEmpty()) {
            return;
        }
        try {
            consumer.commitSync(done);
            done.clear();
        } catch (RebalanceInProgressException | CommitFailedException | TimeoutException e) {
            // Tried again after the next poll, which also says whether a partition was revoked. What
            // another member reads again has its mark.
            System.err.printf("loyalty: offsets are not committed yet: %s%n", e.getMessage());
        }
    }

    /** The partitions go to another member. Nothing is in flight: poll and close call this. */
    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        commitOffsets();
        done.keySet().removeAll(partitions);
    }

    /** They are gone already, and somebody else commits for them. */
    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        done.keySet().removeAll(partitions);
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        // They are read from the committed offset.
    }
}
