// Prints the table of java_test.go from the Java client itself. Run with the jars of Kafka's client:
//
//     java -cp 'LIBS/*' partitioning/testdata/JavaVectors.java
import java.nio.charset.StandardCharsets;
import java.util.StringJoiner;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

public class JavaVectors {
    public static void main(String[] args) {
        String[] keys = {
            "a", "ab", "abc", "abcd", "abcde", "abcdef", "abcdefg", "abcdefgh", "0", "1", "21", "foobar", "kafka",
            "a-little-bit-long-string", "a-little-bit-longer-string", "order-100", "order-101", "user-1002",
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", "00000000-0000-0000-0000-000000000000",
            "018f4d3e-7c1a-7b2c-9d3e-4f5a6b7c8d9e", "äöü", "日本語", "\ud83d\ude80", "order/42 x",
        };
        int[] partitions = {1, 2, 3, 7, 12, 50, 1000, Integer.MAX_VALUE};
        for (String key : keys) {
            byte[] bytes = key.getBytes(StandardCharsets.UTF_8);
            StringJoiner chosen = new StringJoiner(", ", "{", "}");
            for (int n : partitions) {
                chosen.add(Integer.toString(BuiltInPartitioner.partitionForKey(bytes, n)));
            }
            System.out.printf("\t{\"%s\", %d, [8]int%s},%n", key, Utils.murmur2(bytes), chosen);
        }
        byte[] every = new byte[256];
        for (int i = 0; i < every.length; i++) {
            every[i] = (byte) i;
        }
        System.out.printf("empty %d, every byte %d%n", Utils.murmur2(new byte[0]), Utils.murmur2(every));
    }
}
