//! What errors of brokers say about a write.

use ottla_checker::Outcome;
use ottla_types::ErrorCode;

#[test]
fn an_error_is_definite_only_where_nothing_can_have_been_written() {
    let of = |outcome| ErrorCode::ALL.iter().filter(move |code| Outcome::of_produce(**code) == outcome);
    assert_eq!(of(Outcome::Ok).collect::<Vec<_>>(), [&ErrorCode::None]);
    let ambiguous = [
        ErrorCode::UnknownServerError,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::RequestTimedOut,
        ErrorCode::NetworkException,
        ErrorCode::NotEnoughReplicasAfterAppend,
        ErrorCode::KafkaStorageError,
        ErrorCode::DuplicateSequenceNumber,
        ErrorCode::FencedLeaderEpoch,
    ];
    for code in ambiguous {
        assert_eq!(Outcome::of_produce(code), Outcome::Info, "{code}");
    }
    let refused = [
        ErrorCode::CorruptMessage,
        ErrorCode::MessageTooLarge,
        ErrorCode::NotEnoughReplicas,
        ErrorCode::ProducerFenced,
    ];
    for code in refused {
        assert_eq!(Outcome::of_produce(code), Outcome::Fail, "{code}");
    }
}
