//! What goes in and out of topics: Kafka's `BrokerTopicMetrics`; [`TopicSnapshot`] has its names.

use ottla_record::{InvalidBatch, RejectReason};

use super::{Counter, TopicSnapshot};

#[derive(Debug, Default)]
pub(crate) struct TopicMetrics {
    messages_in: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    bytes_rejected: Counter,
    total_produce_requests: Counter,
    failed_produce_requests: Counter,
    total_fetch_requests: Counter,
    failed_fetch_requests: Counter,
    produce_message_conversions: Counter,
    no_key_compacted_topic_records: Counter,
    invalid_magic_number_records: Counter,
    invalid_message_crc_records: Counter,
    invalid_offset_or_sequence_records: Counter,
}

impl TopicMetrics {
    /// A batch was appended; `bytes` is what the producer sent.
    pub(crate) fn appended(&self, messages: u64, bytes: usize, rebuilt: bool) {
        self.total_produce_requests.add(1);
        self.messages_in.add(messages);
        self.bytes_in.add(bytes as u64);
        if rebuilt {
            self.produce_message_conversions.add(messages);
        }
    }

    /// A batch was not: Kafka counts as failed what the client, or the broker, did wrong, not what will pass by itself.
    pub(crate) fn not_appended(&self, failed: bool) {
        self.total_produce_requests.add(1);
        self.failed_produce_requests.add(u64::from(failed));
    }

    /// A batch was refused for what is in it.
    pub(crate) fn refused(&self, invalid: &InvalidBatch, bytes: usize) {
        // Kafka has answers of its own for these two, and counts neither as a failed request.
        let counted_apart = matches!(invalid, InvalidBatch::TooLarge { .. } | InvalidBatch::CrcMismatch { .. });
        self.not_appended(!counted_apart);
        match invalid {
            InvalidBatch::TooLarge { .. } => self.bytes_rejected.add(bytes as u64),
            InvalidBatch::CrcMismatch { .. } => self.invalid_message_crc_records.add(1),
            InvalidBatch::UnsupportedMagic(_) | InvalidBatch::UnknownMagic(_) => {
                self.invalid_magic_number_records.add(1);
            }
            InvalidBatch::CountMismatch { .. } | InvalidBatch::InvalidSequence(_) => {
                self.invalid_offset_or_sequence_records.add(1);
            }
            InvalidBatch::Rejected { records, total } => {
                // Only the first ones are named; all of a batch are mostly of one kind.
                let keyless = records.iter().filter(|record| record.reason == RejectReason::NoKey).count();
                let keyless = if keyless == records.len() { *total } else { keyless };
                self.no_key_compacted_topic_records.add(keyless as u64);
            }
            _ => {}
        }
    }

    /// A fetch asks for a partition.
    pub(crate) fn fetched(&self) {
        self.total_fetch_requests.add(1);
    }

    pub(crate) fn fetch_failed(&self) {
        self.failed_fetch_requests.add(1);
    }

    /// Records are on their way to a consumer.
    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_out.add(bytes as u64);
    }

    pub(super) fn add_to(&self, total: &mut TopicSnapshot) {
        total.messages_in += self.messages_in.count();
        total.bytes_in += self.bytes_in.count();
        total.bytes_out += self.bytes_out.count();
        total.bytes_rejected += self.bytes_rejected.count();
        total.total_produce_requests += self.total_produce_requests.count();
        total.failed_produce_requests += self.failed_produce_requests.count();
        total.total_fetch_requests += self.total_fetch_requests.count();
        total.failed_fetch_requests += self.failed_fetch_requests.count();
        total.produce_message_conversions += self.produce_message_conversions.count();
        total.no_key_compacted_topic_records += self.no_key_compacted_topic_records.count();
        total.invalid_magic_number_records += self.invalid_magic_number_records.count();
        total.invalid_message_crc_records += self.invalid_message_crc_records.count();
        total.invalid_offset_or_sequence_records += self.invalid_offset_or_sequence_records.count();
    }
}
