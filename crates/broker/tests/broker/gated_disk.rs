//! A disk whose syncs can be held up.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_rt::{BoxFuture, DirEntry, Disk, DiskFile, DiskLock, OpenMode, Space, World};
use tokio::sync::watch;

struct GatedDisk {
    inner: Arc<dyn Disk>,
    is_open: watch::Receiver<bool>,
}

/// The world with such a disk, and whether syncs go on.
pub fn gated(world: World) -> (World, watch::Sender<bool>) {
    let (sender, is_open) = watch::channel(true);
    let disk = GatedDisk { inner: Arc::clone(&world.disk), is_open };
    (World { disk: Arc::new(disk), ..world }, sender)
}

impl Disk for GatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.open(path, mode)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.read_dir(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn sync_files(&self, files: Vec<Arc<dyn DiskFile>>) -> BoxFuture<'static, Vec<io::Result<()>>> {
        let (inner, mut is_open) = (Arc::clone(&self.inner), self.is_open.clone());
        Box::pin(async move {
            // Without the gate there is nothing to wait for.
            let _ = is_open.wait_for(|open| *open).await;
            inner.sync_files(files).await
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.inner.lock(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.inner.space(path)
    }
}
