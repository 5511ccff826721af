//! The records of a response, as whoever sends or receives them has them.

use bytes::{Bytes, BytesMut};

/// Record batches in a response. A receiver has them in one piece; a sender may have several, some of which only the
/// place is known of that sends the frame.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FetchedRecords(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Whole(RecordsPart),
    Parts(Vec<RecordsPart>),
}

/// One piece of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordsPart {
    Bytes(Bytes),
    /// So many bytes that are not here: see [`crate::FramePart::Elsewhere`].
    Elsewhere(usize),
}

impl Default for Form {
    fn default() -> Form {
        Form::Whole(RecordsPart::Bytes(Bytes::new()))
    }
}

impl FetchedRecords {
    pub fn from_parts(parts: Vec<RecordsPart>) -> FetchedRecords {
        FetchedRecords(Form::Parts(parts))
    }

    pub fn parts(&self) -> &[RecordsPart] {
        match &self.0 {
            Form::Whole(part) => std::slice::from_ref(part),
            Form::Parts(parts) => parts,
        }
    }

    /// Their bytes, all parts together.
    pub fn len(&self) -> usize {
        self.parts().iter().map(RecordsPart::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.parts().iter().all(|part| part.len() == 0)
    }

    /// The bytes in one piece, copied if they are in several; `None` if some of them are not here. What was decoded is
    /// always here, in one piece.
    pub fn into_bytes(self) -> Option<Bytes> {
        if let Form::Whole(RecordsPart::Bytes(bytes)) = self.0 {
            return Some(bytes);
        }
        if self.parts().iter().any(|part| matches!(part, RecordsPart::Elsewhere(length) if *length > 0)) {
            return None;
        }
        let mut whole = BytesMut::with_capacity(self.len());
        for part in self.parts() {
            if let RecordsPart::Bytes(bytes) = part {
                whole.extend_from_slice(bytes);
            }
        }
        Some(whole.freeze())
    }
}

impl RecordsPart {
    pub fn len(&self) -> usize {
        match self {
            RecordsPart::Bytes(bytes) => bytes.len(),
            RecordsPart::Elsewhere(length) => *length,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for FetchedRecords {
    fn from(bytes: Bytes) -> FetchedRecords {
        FetchedRecords(Form::Whole(RecordsPart::Bytes(bytes)))
    }
}
