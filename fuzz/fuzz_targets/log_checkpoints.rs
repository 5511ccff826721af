//! The text files of a log directory: any bytes are read or refused, and what was read is written and read again as the
//! same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_log::{MetaProperties, format_epochs, format_offsets, parse_epochs, parse_offsets};

fuzz_target!(|data: &[u8]| {
    if let Ok(offsets) = parse_offsets(data) {
        assert_eq!(parse_offsets(format_offsets(&offsets).as_bytes()), Ok(offsets));
    }
    if let Ok(epochs) = parse_epochs(data) {
        assert!(epochs.is_sorted_by(|one, next| one.epoch < next.epoch && one.start_offset < next.start_offset));
        assert_eq!(parse_epochs(format_epochs(&epochs).as_bytes()), Ok(epochs));
    }
    if let Ok(meta) = MetaProperties::parse(data) {
        assert_eq!(MetaProperties::parse(meta.format().as_bytes()), Ok(meta));
    }
});
