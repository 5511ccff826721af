import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.OutputStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketException;
import java.net.SocketTimeoutException;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.requests.ResponseHeader;

/**
 * Single requests in any version, written as JSON with Kafka's field names and sent over a socket of our own: no client
 * logic corrects, retries or hides anything.
 *
 * <p>A request is {api, version, body} and may carry {header_version_as: n} to put another version into the header, {patch:
 * [[offset, hex]]} to overwrite bytes of the encoded body, {truncate: n} to cut bytes off its end, or {append: hex}. An
 * answer is {body}, {closed: true} or {silent: true}.
 */
final class Wire {
    private static final int ANSWER_BYTES_MAX = 64 * 1024 * 1024;

    private Wire() {
    }

    static Object exchange(JsonNode args) throws Exception {
        ArrayNode answers = Main.JSON.createArrayNode();
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress(args.get("host").asText(), args.get("port").asInt()), 5000);
            socket.setSoTimeout((int) (args.get("timeout_s").asDouble() * 1000));
            int correlationId = 0;
            for (JsonNode request : args.get("requests")) {
                answers.add(one(socket, request, ++correlationId));
            }
        }
        return answers;
    }

    private static ObjectNode one(Socket socket, JsonNode request, int correlationId) throws Exception {
        ObjectNode answer = Main.JSON.createObjectNode();
        ApiKeys api = ApiKeys.valueOf(request.get("api").asText());
        short version = (short) request.get("version").asInt();
        try {
            OutputStream output = socket.getOutputStream();
            output.write(frame(api, version, request, correlationId));
            output.flush();
            if (request.path("no_answer").asBoolean()) {
                return answer.put("sent", true);
            }
            DataInputStream input = new DataInputStream(socket.getInputStream());
            int size = input.readInt();
            if (size < 4 || size > ANSWER_BYTES_MAX) {
                throw new DriverException("BAD_FRAME", "an answer of " + size + " bytes");
            }
            ByteBuffer frame = ByteBuffer.wrap(input.readNBytes(size));
            short answeredAs = request.has("answer_version") ? (short) request.get("answer_version").asInt() : version;
            ResponseHeader header = ResponseHeader.parse(frame, api.responseHeaderVersion(answeredAs));
            if (header.correlationId() != correlationId) {
                throw new DriverException("BAD_CORRELATION_ID", header.correlationId() + " for " + correlationId);
            }
            ApiMessage body = (ApiMessage) type(api, "ResponseData")
                .getConstructor(org.apache.kafka.common.protocol.Readable.class, short.class)
                .newInstance(new ByteBufferAccessor(frame), answeredAs);
            if (frame.hasRemaining()) {
                throw new DriverException("TRAILING_BYTES", frame.remaining() + " bytes after the answer");
            }
            answer.set("body", toJson(api, body, answeredAs));
        } catch (EOFException | SocketException closed) {
            answer.put("closed", true);
        } catch (SocketTimeoutException silent) {
            answer.put("silent", true);
        }
        return answer;
    }

    private static byte[] frame(ApiKeys api, short version, JsonNode request, int correlationId) throws Exception {
        Message body = fromJson(api, request.get("body"), version);
        ByteBuffer encodedBody = MessageUtil.toByteBufferAccessor(body, version).buffer();
        byte[] bodyBytes = new byte[encodedBody.remaining()];
        encodedBody.get(bodyBytes);
        for (JsonNode patch : request.path("patch")) {
            byte[] replacement = HexFormat.of().parseHex(patch.get(1).asText());
            System.arraycopy(replacement, 0, bodyBytes, patch.get(0).asInt(), replacement.length);
        }
        int kept = bodyBytes.length - request.path("truncate").asInt(0);
        byte[] appended = HexFormat.of().parseHex(request.path("append").asText(""));
        short headerVersion = api.requestHeaderVersion(version);
        short namedVersion = request.has("header_version_as") ? (short) request.get("header_version_as").asInt() : version;
        RequestHeader header = new RequestHeader(
            new RequestHeaderData()
                .setRequestApiKey(api.id)
                .setRequestApiVersion(namedVersion)
                .setClientId("compat-wire")
                .setCorrelationId(correlationId),
            headerVersion);
        ByteBuffer encodedHeader = MessageUtil.toByteBufferAccessor(header.data(), headerVersion).buffer();
        ByteBuffer frame = ByteBuffer.allocate(4 + encodedHeader.remaining() + kept + appended.length);
        frame.putInt(encodedHeader.remaining() + kept + appended.length);
        frame.put(encodedHeader).put(bodyBytes, 0, kept).put(appended);
        return frame.array();
    }

    private static Class<?> type(ApiKeys api, String suffix) throws ClassNotFoundException {
        return Class.forName("org.apache.kafka.common.message." + api.messageType.name + suffix);
    }

    private static Message fromJson(ApiKeys api, JsonNode body, short version) throws Exception {
        Method read = type(api, "RequestDataJsonConverter").getMethod("read", JsonNode.class, short.class);
        return (Message) unwrapped(() -> read.invoke(null, body, version));
    }

    private static JsonNode toJson(ApiKeys api, ApiMessage body, short version) throws Exception {
        Class<?> data = type(api, "ResponseData");
        Method write = type(api, "ResponseDataJsonConverter").getMethod("write", data, short.class, boolean.class);
        return (JsonNode) unwrapped(() -> write.invoke(null, body, version, false));
    }

    private interface Call {
        Object run() throws ReflectiveOperationException;
    }

    private static Object unwrapped(Call call) throws Exception {
        try {
            return call.run();
        } catch (InvocationTargetException wrapped) {
            throw wrapped.getCause() instanceof Exception cause ? cause : wrapped;
        }
    }
}
