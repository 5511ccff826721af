//! Records to build batches of, and to compare batches with.

use bytes::Bytes;
use ottla_record::{
    BatchBuilder, BatchHeader, Codec, Compression, DecompressionLimits, Header, OpenBatch, Record, RecordError,
    decompress,
};

/// A record that owns what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    pub fn new(timestamp: i64, key: Option<&str>, value: Option<&str>) -> OwnedRecord {
        let own = |text: &str| text.as_bytes().to_vec();
        OwnedRecord { timestamp, key: key.map(own), value: value.map(own), headers: Vec::new() }
    }

    pub fn of(record: &Record<'_>) -> OwnedRecord {
        let headers = record.headers.iter();
        assert_eq!(headers.clone().count(), record.headers.len());
        OwnedRecord {
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec))).collect(),
        }
    }

    pub fn append_to(&self, builder: &mut BatchBuilder) {
        let headers: Vec<Header<'_>> =
            self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        builder.append(self.timestamp, self.key.as_deref(), self.value.as_deref(), &headers).unwrap();
    }
}

/// Builds a batch of these records.
pub fn batch(compression: Compression, records: &[OwnedRecord]) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    for record in records {
        record.append_to(&mut builder);
    }
    builder.finish().unwrap()
}

/// The uncompressed records of a batch.
pub fn body_of(batch: &Bytes) -> Bytes {
    let header = BatchHeader::parse(batch).unwrap();
    decompress(header.attributes.codec().unwrap(), &batch.slice(61..), &DecompressionLimits::default()).unwrap()
}

/// The records of a batch, with their offsets checked to be consecutive.
pub fn records_of(batch: &Bytes) -> Result<Vec<OwnedRecord>, RecordError> {
    let open = OpenBatch::open(batch, &DecompressionLimits::default()).unwrap();
    let mut expected_offset = open.header().base_offset;
    open.records()
        .map(|record| {
            let record = record?;
            assert_eq!(record.offset, expected_offset);
            expected_offset += 1;
            assert_eq!(record.value.map(|value| open.share(value)).as_deref(), record.value);
            Ok(OwnedRecord::of(&record))
        })
        .collect()
}

/// Thirty records of about a hundred bytes, with everything a record can have.
pub fn varied() -> Vec<OwnedRecord> {
    (0..30)
        .map(|index| OwnedRecord {
            timestamp: 1_700_000_000_000 + 7 * index,
            key: (index % 3 != 0).then(|| format!("key-{index}").into_bytes()),
            value: (index % 5 != 0).then(|| format!("value {index} {}", "of a record ".repeat(8)).into_bytes()),
            headers: (0..index % 4)
                .map(|header| (b"same".to_vec(), (header != 1).then(|| vec![b'h'; header as usize])))
                .collect(),
        })
        .collect()
}

pub fn codecs() -> impl Iterator<Item = Codec> {
    Codec::ALL.into_iter()
}
