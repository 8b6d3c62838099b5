// Kafka Streams restores a table of payments (payment id -> the newest event's bytes) from the topic of payments itself:
// a KTable over the topic, whose topic is its changelog (topology.optimization), with its own restore consumers and RocksDB.
// `bench/rebuild` holds paylog's rebuild against it.
//
// In its favour: it decodes no Avro, folds nothing, checks nothing, and keeps one table where paylog keeps four; the group's
// offsets are put at the end of the topic first, so that it restores all and processes nothing; the clock runs from the
// first partition's start to the last one's end, without the start of the JVM, of the group and of RocksDB.
//
//   java -cp 'JARS/*' bench/streams/Restore.java SERVERS TOPIC STATE_DIR THREADS [KEY=VALUE of Streams' settings]...
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.KeyValueStore;

public class Restore {
    static final long RESTORED_WITHIN_SECONDS = 600;

    public static void main(String[] args) throws Exception {
        String servers = args[0], topic = args[1], application = "streams-" + UUID.randomUUID();
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[2]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, args[3]);
        settings.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);
        for (int i = 4; i < args.length; i++) {
            String[] setting = args[i].split("=", 2);
            settings.put(setting[0], setting[1]);
        }
        int partitions = processedToTheEnd(servers, topic, application);

        StreamsBuilder builder = new StreamsBuilder();
        builder.table(
                topic,
                Consumed.with(Serdes.Bytes(), Serdes.ByteArray()),
                Materialized.<Bytes, byte[], KeyValueStore<Bytes, byte[]>>as("payments"));
        KafkaStreams streams = new KafkaStreams(builder.build(settings), settings);
        Clock clock = new Clock(partitions);
        streams.setGlobalStateRestoreListener(clock);
        streams.start();
        boolean restored = clock.ended.await(RESTORED_WITHIN_SECONDS, TimeUnit.SECONDS);
        double seconds = (clock.last.get() - clock.first.get()) / 1e9;
        System.out.printf(
                "streams restored: %.0f/s (%d in %.2f s), resident at most %s%n",
                clock.records.get() / seconds, clock.records.get(), seconds, residentMax());
        streams.close(Duration.ofSeconds(30));
        System.exit(restored ? 0 : 1);
    }

    static String residentMax() throws Exception {
        return Files.readAllLines(Path.of("/proc/self/status")).stream()
                .filter(line -> line.startsWith("VmHWM:"))
                .map(line -> Long.parseLong(line.replaceAll("[^0-9]", "")) / 1000 + " MB")
                .findFirst().orElse("unknown");
    }

    /** Says for the application that it has processed the whole topic. Answers with its number of partitions. */
    static int processedToTheEnd(String servers, String topic, String application) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", servers))) {
            Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
            admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions()
                    .forEach(partition -> asked.put(new TopicPartition(topic, partition.partition()), OffsetSpec.latest()));
            Map<TopicPartition, OffsetAndMetadata> ends = new HashMap<>();
            admin.listOffsets(asked).all().get()
                    .forEach((partition, end) -> ends.put(partition, new OffsetAndMetadata(end.offset())));
            admin.alterConsumerGroupOffsets(application, ends).all().get();
            return ends.size();
        }
    }

    static class Clock implements StateRestoreListener {
        final CountDownLatch ended;
        final AtomicLong first = new AtomicLong(), last = new AtomicLong(), records = new AtomicLong();

        Clock(int partitions) {
            ended = new CountDownLatch(partitions);
        }

        public void onRestoreStart(TopicPartition partition, String store, long from, long to) {
            first.compareAndSet(0, System.nanoTime());
        }

        public void onBatchRestored(TopicPartition partition, String store, long to, long count) {}

        public void onRestoreEnd(TopicPartition partition, String store, long count) {
            records.addAndGet(count);
            last.set(System.nanoTime());
            ended.countDown();
        }
    }
}
