import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;

import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

/**
 * Kafka's Java client as the judge of where our producer sends keys. Reads what {@code partition_cases} writes; the last
 * line counts the cases.
 */
public final class PartitionOracle {
    public static void main(String[] arguments) throws Exception {
        long passed = 0;
        long failed = 0;
        try (var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                String[] fields = line.split("\t", -1);
                byte[] key = HexFormat.of().parseHex(fields[0]);
                int hash = Utils.murmur2(key);
                int partition = BuiltInPartitioner.partitionForKey(key, Integer.parseInt(fields[2]));
                if (hash == Integer.parseInt(fields[1]) && partition == Integer.parseInt(fields[3])) {
                    passed++;
                } else {
                    failed++;
                    System.out.println(line + ": hash " + hash + ", partition " + partition);
                }
            }
        }
        System.out.printf("%,d cases passed, %,d failed%n", passed, failed);
        System.exit(failed == 0 ? 0 : 1);
    }
}
