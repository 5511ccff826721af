//! A file of which only what the system has in its cache is read, so that nobody waits for the disk.

use std::io::{self, IoSlice};

use ottla_rt::DiskFile;

/// Its reads fail where the disk is needed. It is not written to.
pub(crate) struct Resident<'a>(pub(crate) &'a dyn DiskFile);

impl DiskFile for Resident<'_> {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_resident_at(buffer, position)
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_all(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
