import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.protocol.Errors;

/** An error of the client, under Kafka's name where it has one. */
final class DriverException extends Exception {
    private static final long serialVersionUID = 1L;

    final String name;

    DriverException(String name, String message) {
        super(message);
        this.name = name;
    }

    static DriverException of(Throwable thrown) {
        if (thrown instanceof DriverException known) {
            return known;
        }
        if ((thrown instanceof ExecutionException || thrown instanceof CompletionException)
            && thrown.getCause() != null) {
            return of(thrown.getCause());
        }
        return new DriverException(nameOf(thrown), String.valueOf(thrown));
    }

    static String nameOf(Throwable thrown) {
        if (thrown instanceof OffsetOutOfRangeException) {
            return Errors.OFFSET_OUT_OF_RANGE.name();
        }
        if (thrown instanceof NoOffsetForPartitionException) {
            return "NO_OFFSET_AND_NO_RESET";
        }
        String message = String.valueOf(thrown.getMessage());
        // The producer learns of a missing topic or partition from metadata only, and says so in a timeout.
        if (thrown instanceof TimeoutException && message.contains("not present in metadata")) {
            return Errors.UNKNOWN_TOPIC_OR_PARTITION.name();
        }
        if (thrown instanceof TimeoutException && message.contains("Expiring")) {
            return "DELIVERY_TIMEOUT";
        }
        Errors error = Errors.forException(thrown);
        return error == Errors.UNKNOWN_SERVER_ERROR ? thrown.getClass().getSimpleName() : error.name();
    }
}
