//! The small closed vocabularies that configuration values are parsed into.

/// When an append may be acknowledged (`ottla.durability`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After the flush round that covers it: survives power loss.
    #[default]
    Fsync,
    /// Once it is in the page cache: survives the process, not the machine.
    PageCache,
}

/// How deep a produced batch is inspected (`ottla.produce.validation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProduceValidation {
    /// Every record is walked, compressed ones included.
    #[default]
    Strict,
    /// CRC and header, unless the topic's settings need the records.
    Fast,
}

/// What happens to old data (`cleanup.policy`). Both false is Kafka's empty list: nothing is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

impl Default for CleanupPolicy {
    fn default() -> Self {
        Self { delete: true, compact: false }
    }
}

/// How batches are stored (`compression.type` with the level key of its codec).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent them.
    #[default]
    Producer,
    Uncompressed,
    Gzip {
        /// 1 to 9, or -1: the library's default.
        level: i32,
    },
    Snappy,
    Lz4 {
        /// 1 to 17.
        level: i32,
    },
    Zstd {
        /// -131072 to 22.
        level: i32,
    },
}
