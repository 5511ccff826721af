import com.fasterxml.jackson.databind.JsonNode;

import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.CompactArrayOf;
import org.apache.kafka.common.protocol.types.ArrayOf;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.NullableSchema;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Random;
import java.util.TreeMap;
import java.util.jar.JarFile;

/**
 * Apache's half of the codec suite. "write FILE SEED COUNT" fills every message of the jars on the class path, in every
 * version, COUNT times, and writes what Apache's classes make of it; "check FILE" reads bytes that Ottla wrote; "apis FILE"
 * writes which versions each API has, and which headers they use.
 *
 * The messages are filled generically: by the schema each generated class carries for each of its versions, and a seed.
 * A case says which message is read in which version, from which bytes, and what writing it in which version gives.
 */
public final class CodecOracle {
    private static final int CANNOT_READ = -1;
    private static final int CANNOT_WRITE = -2;
    private static final short DEFAULT_MESSAGE = -1;
    /** How many of the fillings of a version are also written in all other versions. */
    private static final int CROSSED = 6;
    private static final int FAILURES_SHOWN = 20;

    private enum Filling { LEAST, EMPTY, MOST, MIXED }

    public static void main(String[] arguments) throws Exception {
        TreeMap<String, Class<?>> messages = messages();
        boolean fine = switch (arguments[0]) {
            case "write" -> write(messages, arguments[1], Long.parseLong(arguments[2]), Integer.parseInt(arguments[3]));
            case "check" -> check(messages, arguments[1]);
            case "apis" -> apis(arguments[1]);
            default -> throw new IllegalArgumentException(arguments[0]);
        };
        System.exit(fine ? 0 : 1);
    }

    /** Every message class, by its simple name: whatever has a JSON converter beside it. */
    private static TreeMap<String, Class<?>> messages() throws Exception {
        String suffix = "JsonConverter.class";
        TreeMap<String, Class<?>> messages = new TreeMap<>();
        for (String element : System.getProperty("java.class.path").split(File.pathSeparator)) {
            if (!new File(element).getName().startsWith("kafka-")) {
                continue;
            }
            try (JarFile jar = new JarFile(element)) {
                for (String entry : (Iterable<String>) jar.stream().map(e -> e.getName())::iterator) {
                    if (!entry.endsWith(suffix) || entry.contains("$")) {
                        continue;
                    }
                    String name = entry.substring(0, entry.length() - suffix.length()).replace('/', '.');
                    Class<?> message = Class.forName(name);
                    if (messages.put(message.getSimpleName(), message) != null) {
                        throw new IllegalStateException("two messages are called " + message.getSimpleName());
                    }
                }
            }
        }
        return messages;
    }

    private static boolean write(Map<String, Class<?>> messages, String file, long seed, int count) throws Exception {
        int cases = 0;
        int versions = 0;
        boolean fine = true;
        try (DataOutputStream output =
                 new DataOutputStream(new BufferedOutputStream(new FileOutputStream(file), 1 << 20))) {
            for (Map.Entry<String, Class<?>> entry : messages.entrySet()) {
                Class<?> type = entry.getValue();
                Schema[] schemas = (Schema[]) type.getField("SCHEMAS").get(null);
                short lowest = type.getField("LOWEST_SUPPORTED_VERSION").getShort(null);
                short highest = type.getField("HIGHEST_SUPPORTED_VERSION").getShort(null);
                for (short version = lowest; version <= highest; version++) {
                    versions++;
                    cases += writeCase(output, type, DEFAULT_MESSAGE, version, new byte[0], newMessage(type));
                    for (int round = 0; round < count; round++) {
                        Filling filling = Filling.values()[Math.min(round, Filling.values().length - 1)];
                        long caseSeed = seed * 1_000_003 + type.getName().hashCode() * 31L + version * 7919L + round;
                        byte[] bytes = new Filler(caseSeed, filling, false).fill(schemas[version]);
                        Message message = read(type, bytes, version);
                        cases += writeCase(output, type, version, version, bytes, message);
                        fine &= jsonAgrees(type, message, version);
                        // The same content with tagged fields nobody knows: they are skipped, and the rest is the same.
                        byte[] more = new Filler(caseSeed, filling, true).fill(schemas[version]);
                        if (!Arrays.equals(more, bytes)) {
                            cases += writeCase(output, type, version, version, more, message);
                        }
                        for (short other = lowest; other <= highest && round < CROSSED; other++) {
                            if (other != version) {
                                cases += writeCase(output, type, version, other, bytes, message);
                            }
                        }
                    }
                }
            }
            cases += writeBrokenText(output, messages.get("RequestHeaderData"), seed);
        }
        System.out.printf("%d messages, %d versions, %d cases written%n", messages.size(), versions, cases);
        return fine;
    }

    /** Client ids that are not UTF-8, which Kafka does not refuse but repairs. */
    private static int writeBrokenText(DataOutputStream output, Class<?> header, long seed) throws Exception {
        int[] pieces = {'a', 0x80, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xe0, 0xe2, 0xed, 0xef, 0xf0, 0x90, 0xf4, 0x8f, 0xf8, 0xff};
        Random random = new Random(seed);
        int cases = 0;
        while (cases < 1000) {
            byte[] text = new byte[random.nextInt(10)];
            for (int index = 0; index < text.length; index++) {
                text[index] = (byte) pieces[random.nextInt(pieces.length)];
            }
            ByteBuffer bytes = ByteBuffer.allocate(10 + text.length);
            bytes.putShort((short) 3).putShort((short) 1).putInt(5).putShort((short) text.length).put(text);
            cases += writeCase(output, header, (short) 1, (short) 1, bytes.array(), read(header, bytes.array(), (short) 1));
        }
        return cases;
    }

    private static int writeCase(DataOutputStream output, Class<?> type, short readVersion, short writeVersion,
                                 byte[] bytes, Message message) throws IOException {
        output.writeUTF(type.getSimpleName());
        output.writeShort(readVersion);
        output.writeShort(writeVersion);
        output.writeInt(bytes.length);
        output.write(bytes);
        if (message == null) {
            output.writeInt(CANNOT_READ);
            return 1;
        }
        byte[] written;
        try {
            written = toBytes(message, writeVersion);
        } catch (RuntimeException cannotBeWritten) {
            output.writeInt(CANNOT_WRITE);
            return 1;
        }
        output.writeInt(written.length);
        output.write(written);
        return 1;
    }

    private static boolean check(Map<String, Class<?>> messages, String file) throws Exception {
        int passed = 0;
        int failed = 0;
        try (DataInputStream input =
                 new DataInputStream(new BufferedInputStream(new FileInputStream(file), 1 << 20))) {
            while (true) {
                String name;
                try {
                    name = input.readUTF();
                } catch (EOFException end) {
                    break;
                }
                short version = input.readShort();
                byte[] bytes = input.readNBytes(input.readInt());
                Class<?> type = messages.getOrDefault(name, messages.get(name + "Data"));
                String wrong = null;
                try {
                    Message message = read(type, bytes, version);
                    if (message == null) {
                        wrong = "Java cannot read it to its end";
                    } else if (!Arrays.equals(toBytes(message, version), bytes)) {
                        wrong = "Java writes " + HexFormat.of().formatHex(toBytes(message, version));
                    } else if (!jsonAgrees(type, message, version)) {
                        wrong = "its JSON is another message";
                    }
                } catch (RuntimeException error) {
                    wrong = error.toString();
                }
                if (wrong == null) {
                    passed++;
                } else if (failed++ < FAILURES_SHOWN) {
                    System.out.printf("%s version %d: %s%n  %s%n", name, version, wrong,
                        HexFormat.of().formatHex(bytes));
                }
            }
        }
        System.out.printf("%d cases passed, %d failed%n", passed, failed);
        return failed == 0;
    }

    private static boolean apis(String file) throws IOException {
        try (PrintWriter output = new PrintWriter(file, StandardCharsets.UTF_8)) {
            for (ApiKeys api : ApiKeys.values()) {
                if (!api.hasValidVersion()) {
                    continue;
                }
                output.printf("%d %s stable %d-%d%n", api.id, api.name, api.oldestVersion(), api.latestVersion(false));
                for (short version = api.oldestVersion(); version <= api.latestVersion(true); version++) {
                    output.printf("%d headers %d %d%n", version, api.requestHeaderVersion(version),
                        api.responseHeaderVersion(version));
                }
            }
        }
        return true;
    }

    /** Whether the message is the same after a way through its JSON form: guards the generic filling of this program. */
    private static boolean jsonAgrees(Class<?> type, Message message, short version) throws Exception {
        if (message == null || hasRecords(type, version)) {
            return true;
        }
        Class<?> converter = Class.forName(type.getName() + "JsonConverter");
        Method toJson = converter.getMethod("write", type, short.class);
        Method fromJson = converter.getMethod("read", JsonNode.class, short.class);
        JsonNode json = (JsonNode) toJson.invoke(null, message, version);
        Object again = fromJson.invoke(null, json, version);
        boolean same = Arrays.equals(toBytes((Message) again, version), toBytes(message, version));
        if (!same) {
            System.out.println(type.getSimpleName() + " version " + version + ": JSON changes it: " + json);
        }
        return same;
    }

    /** Records have no JSON form: only their size is written. */
    private static boolean hasRecords(Class<?> type, short version) throws ReflectiveOperationException {
        boolean[] found = new boolean[1];
        ((Schema[]) type.getField("SCHEMAS").get(null))[version].walk(new Schema.Visitor() {
            @Override
            public void visit(Type part) {
                found[0] |= part.toString().contains("RECORDS");
            }
        });
        return found[0];
    }

    private static Message newMessage(Class<?> type) throws ReflectiveOperationException {
        return (Message) type.getConstructor().newInstance();
    }

    /** The message in these bytes, or null if they are none or do not end with it. */
    private static Message read(Class<?> type, byte[] bytes, short version) throws ReflectiveOperationException {
        Message message = newMessage(type);
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        try {
            message.read(new ByteBufferAccessor(buffer), version);
        } catch (RuntimeException malformed) {
            return null;
        }
        return buffer.hasRemaining() ? null : message;
    }

    private static byte[] toBytes(Message message, short version) {
        ByteBuffer buffer = MessageUtil.toByteBufferAccessor(message, version).buffer();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    /** Fills a schema at random. */
    private static final class Filler {
        private final Random random;
        private final Random unknown;
        private final Filling filling;

        private Filler(long seed, Filling filling, boolean unknownTags) {
            this.random = new Random(seed);
            this.unknown = unknownTags ? new Random(~seed) : null;
            this.filling = filling;
        }

        private byte[] fill(Schema schema) {
            Struct struct = struct(schema);
            ByteBuffer buffer = ByteBuffer.allocate(schema.sizeOf(struct));
            schema.write(buffer, struct);
            return buffer.array();
        }

        private Struct struct(Schema schema) {
            Struct struct = new Struct(schema);
            for (BoundField field : schema.fields()) {
                struct.set(field, value(field.def.type));
            }
            return struct;
        }

        private Object value(Type type) {
            if (type.isNullable() && isNull()) {
                return null;
            }
            if (type instanceof Schema schema) {
                return struct(schema);
            }
            if (type instanceof TaggedFields tagged) {
                return tagged(tagged);
            }
            if (type instanceof ArrayOf || type instanceof CompactArrayOf) {
                Object[] elements = new Object[switch (filling) {
                    case LEAST, EMPTY -> 0;
                    case MOST -> 2;
                    case MIXED -> random.nextInt(4);
                }];
                Type element = type.arrayElementType().orElseThrow();
                Arrays.setAll(elements, index -> value(element));
                return elements;
            }
            if (type == Type.BOOLEAN) {
                return filling == Filling.MOST || random.nextBoolean();
            } else if (type == Type.INT8) {
                return (byte) number();
            } else if (type == Type.INT16) {
                return (short) number();
            } else if (type == Type.UINT16) {
                return (int) number() & 0xffff;
            } else if (type == Type.INT32) {
                return (int) number();
            } else if (type == Type.UNSIGNED_INT32) {
                return number() & 0xffffffffL;
            } else if (type == Type.INT64) {
                return number();
            } else if (type == Type.FLOAT64) {
                return random.nextInt(8) == 0 ? 0.0 : random.nextGaussian() * 1e6;
            } else if (type == Type.UUID) {
                boolean zero = filling == Filling.LEAST || random.nextInt(8) == 0;
                return zero ? org.apache.kafka.common.Uuid.ZERO_UUID
                    : new org.apache.kafka.common.Uuid(random.nextLong(), random.nextLong());
            } else if (type == Type.STRING || type == Type.COMPACT_STRING || type == Type.NULLABLE_STRING
                || type == Type.COMPACT_NULLABLE_STRING) {
                return text();
            } else if (type == Type.BYTES || type == Type.COMPACT_BYTES || type == Type.NULLABLE_BYTES
                || type == Type.COMPACT_NULLABLE_BYTES) {
                return ByteBuffer.wrap(bytes());
            } else if (type == Type.RECORDS || type == Type.COMPACT_RECORDS || type == Type.NULLABLE_RECORDS
                || type == Type.COMPACT_NULLABLE_RECORDS) {
                return MemoryRecords.readableRecords(ByteBuffer.wrap(bytes()));
            }
            throw new IllegalStateException("no filling for " + type);
        }

        private NavigableMap<Integer, Object> tagged(TaggedFields fields) {
            NavigableMap<Integer, Object> values = new TreeMap<>();
            for (Map.Entry<Integer, Field> field : fields.fields().entrySet()) {
                boolean wanted = switch (filling) {
                    case LEAST, EMPTY -> false;
                    case MOST -> true;
                    case MIXED -> random.nextBoolean();
                };
                if (wanted) {
                    Type type = field.getValue().type;
                    // The schema's marker of a null struct is not the one the generated classes read in a tagged field;
                    // nulls there come from Ottla's side.
                    values.put(field.getKey(), type instanceof NullableSchema schema ? struct(schema) : value(type));
                }
            }
            for (int more = unknown == null ? 0 : unknown.nextInt(3); more > 0; more--) {
                byte[] bytes = new byte[unknown.nextInt(300)];
                unknown.nextBytes(bytes);
                int tag = 50 + unknown.nextInt(1 << 20);
                values.put(tag, new RawTaggedField(tag, bytes));
            }
            return values;
        }

        private boolean isNull() {
            return switch (filling) {
                case LEAST -> true;
                case EMPTY, MOST -> false;
                case MIXED -> random.nextInt(4) == 0;
            };
        }

        private long number() {
            return switch (random.nextInt(6)) {
                case 0 -> 0;
                case 1 -> -1;
                case 2 -> random.nextInt(100);
                default -> random.nextLong();
            };
        }

        private String text() {
            int length = switch (filling) {
                case LEAST, EMPTY -> 0;
                case MOST -> 1 + random.nextInt(30);
                case MIXED -> random.nextInt(16) == 0 ? 127 + random.nextInt(200) : random.nextInt(12);
            };
            String letters = "aZ0-._ \u00e9\u6f22\u20ac\u0000";
            StringBuilder text = new StringBuilder();
            for (int index = 0; index < length; index++) {
                text.append(random.nextInt(10) == 0 ? "\ud83d\ude00" : letters.charAt(random.nextInt(letters.length())));
            }
            return text.toString();
        }

        private byte[] bytes() {
            byte[] bytes = new byte[switch (filling) {
                case LEAST, EMPTY -> 0;
                case MOST -> 1 + random.nextInt(200);
                // More than what Ottla's encoder copies.
                case MIXED -> random.nextInt(16) == 0 ? 4096 + random.nextInt(2000) : random.nextInt(40);
            }];
            random.nextBytes(bytes);
            return bytes;
        }
    }
}
