//! The operating system's world, with every call into it counted.
//!
//! Nothing below the binary reaches the system but through the seam, and each of these calls is one system call: an
//! accepted request costs one `recv`, an append one `pwritev`, and so on. (`strace -c -f` on the binary shows the same
//! counts; what it adds is `epoll_wait`, which is the runtime's number of parks.)

use std::any::Any;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use ottla_rt::{
    BoxFuture, DirEntry, Disk, DiskFile, DiskLock, Listener, Net, OpenMode, ReadHalf, Space, Spawn, Stream, World,
    WriteHalf,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What was called, since the start.
#[derive(Default)]
pub struct Counters {
    socket_reads: AtomicU64,
    socket_writes: AtomicU64,
    file_sends: AtomicU64,
    file_reads: AtomicU64,
    file_writes: AtomicU64,
    file_syncs: AtomicU64,
    handovers: AtomicU64,
}

/// Counts at one moment, or between two.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Calls {
    pub socket_reads: f64,
    pub socket_writes: f64,
    pub file_sends: f64,
    pub file_reads: f64,
    pub file_writes: f64,
    pub file_syncs: f64,
    /// Work given to another thread.
    pub handovers: f64,
}

impl Counters {
    pub fn read(&self) -> Calls {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        Calls {
            socket_reads: of(&self.socket_reads),
            socket_writes: of(&self.socket_writes),
            file_sends: of(&self.file_sends),
            file_reads: of(&self.file_reads),
            file_writes: of(&self.file_writes),
            file_syncs: of(&self.file_syncs),
            handovers: of(&self.handovers),
        }
    }
}

impl Calls {
    /// What was called since `before`, for each of so many requests.
    pub fn since(self, before: Calls, requests: usize) -> Calls {
        let each = |after: f64, before: f64| (after - before) / requests as f64;
        Calls {
            socket_reads: each(self.socket_reads, before.socket_reads),
            socket_writes: each(self.socket_writes, before.socket_writes),
            file_sends: each(self.file_sends, before.file_sends),
            file_reads: each(self.file_reads, before.file_reads),
            file_writes: each(self.file_writes, before.file_writes),
            file_syncs: each(self.file_syncs, before.file_syncs),
            handovers: each(self.handovers, before.handovers),
        }
    }
}

/// The system's world, and what is called of it.
pub fn world() -> (World, Arc<Counters>) {
    let os = World::os();
    let counters = Arc::new(Counters::default());
    let world = World {
        disk: Arc::new(CountedDisk { inner: os.disk, counters: Arc::clone(&counters) }),
        net: Arc::new(CountedNet { inner: os.net, counters: Arc::clone(&counters) }),
        spawn: Arc::new(CountedSpawn { inner: os.spawn, counters: Arc::clone(&counters) }),
        ..os
    };
    (world, counters)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

struct CountedSpawn {
    inner: Arc<dyn Spawn>,
    counters: Arc<Counters>,
}

impl Spawn for CountedSpawn {
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        count(&self.counters.handovers);
        self.inner.blocking(work)
    }
}

struct CountedNet {
    inner: Arc<dyn Net>,
    counters: Arc<Counters>,
}

impl Net for CountedNet {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let inner = self.inner.bind(address).await?;
            Ok(Box::new(CountedListener { inner, counters: Arc::clone(&self.counters) }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        self.inner.connect(host, port)
    }

    fn host_name(&self) -> String {
        self.inner.host_name()
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.inner.resolve(host, port)
    }
}

struct CountedListener {
    inner: Box<dyn Listener>,
    counters: Arc<Counters>,
}

impl Listener for CountedListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let (inner, peer) = self.inner.accept().await?;
            Ok((Box::new(CountedStream { inner, counters: Arc::clone(&self.counters) }) as Box<dyn Stream>, peer))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.inner.local_address()
    }
}

struct CountedStream {
    inner: Box<dyn Stream>,
    counters: Arc<Counters>,
}

impl Stream for CountedStream {
    fn split(self: Box<Self>) -> (Box<dyn ReadHalf>, Box<dyn WriteHalf>) {
        let (read, write) = self.inner.split();
        let counters = self.counters;
        (
            Box::new(CountedRead { inner: read, counters: Arc::clone(&counters) }),
            Box::new(CountedWrite { inner: write, counters }),
        )
    }
}

struct CountedRead {
    inner: Box<dyn ReadHalf>,
    counters: Arc<Counters>,
}

impl AsyncRead for CountedRead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        // While the socket is known to be empty the runtime answers by itself.
        if polled.is_ready() {
            count(&self.counters.socket_reads);
        }
        polled
    }
}

struct CountedWrite {
    inner: Box<dyn WriteHalf>,
    counters: Arc<Counters>,
}

impl AsyncWrite for CountedWrite {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        count(&self.counters.socket_writes);
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        count(&self.counters.socket_writes);
        Pin::new(&mut self.inner).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl WriteHalf for CountedWrite {
    fn poll_write_before_file(
        &mut self,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        count(&self.counters.socket_writes);
        self.inner.poll_write_before_file(context, buffers)
    }

    fn poll_send_file(
        &mut self,
        context: &mut Context<'_>,
        file: &dyn DiskFile,
        position: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let polled = self.inner.poll_send_file(context, file, position, length);
        if polled.is_ready() {
            count(&self.counters.file_sends);
        }
        polled
    }
}

struct CountedDisk {
    inner: Arc<dyn Disk>,
    counters: Arc<Counters>,
}

impl Disk for CountedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(CountedFile { inner, counters: Arc::clone(&self.counters) }))
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
        count(&self.counters.file_syncs);
        self.inner.sync_dir(path)
    }

    fn sync_files(&self, files: Vec<Arc<dyn DiskFile>>) -> BoxFuture<'static, Vec<io::Result<()>>> {
        // The system's disk hands them to threads, one each up to its limit.
        count(&self.counters.handovers);
        self.inner.sync_files(files)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.inner.lock(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.inner.space(path)
    }
}

struct CountedFile {
    inner: Arc<dyn DiskFile>,
    counters: Arc<Counters>,
}

impl DiskFile for CountedFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        count(&self.counters.file_reads);
        self.inner.read_at(buffer, position)
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        count(&self.counters.file_writes);
        self.inner.write_at(buffers, position)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        count(&self.counters.file_syncs);
        self.inner.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        count(&self.counters.file_syncs);
        self.inner.sync_all()
    }

    fn is_resident(&self, position: u64, length: usize) -> bool {
        self.inner.is_resident(position, length)
    }

    fn read_resident_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        count(&self.counters.file_reads);
        self.inner.read_resident_at(buffer, position)
    }

    fn make_resident(&self, position: u64, length: usize) -> io::Result<()> {
        self.inner.make_resident(position, length)
    }

    fn raw_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.raw_fd()
    }

    fn as_any(&self) -> Option<&dyn Any> {
        self.inner.as_any()
    }
}
