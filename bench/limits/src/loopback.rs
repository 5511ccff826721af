//! One connection over loopback to a reader that throws everything away: from memory, and from a file by sendfile.

use std::fs::{File, remove_file};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Instant;

use rustix::fs::sendfile;
use rustix::time::{ClockId, clock_gettime};

use crate::megabytes_per_second;

const FILE_BYTES: usize = 64 << 20;
const WRITE_BYTES: usize = 256 << 10;

pub fn measure(directory: &Path, mebibytes: u64) -> io::Result<Vec<(&'static str, f64)>> {
    let total = mebibytes << 20;
    let block = vec![0x5a_u8; WRITE_BYTES];
    let (written, write_cpu) = timed(total, |stream| {
        let mut left = total;
        while left > 0 {
            let part = left.min(WRITE_BYTES as u64) as usize;
            stream.write_all(&block[..part])?;
            left -= part as u64;
        }
        Ok(())
    })?;
    let path = directory.join("limits-sendfile");
    File::create(&path)?.write_all(&vec![0x5a; FILE_BYTES])?;
    let file = File::open(&path)?;
    remove_file(&path)?;
    let (sent, send_cpu) = timed(total, |stream| {
        let mut left = total;
        while left > 0 {
            let mut offset = 0;
            while offset < FILE_BYTES as u64 && left > 0 {
                let part = left.min(FILE_BYTES as u64 - offset).min(WRITE_BYTES as u64) as usize;
                let moved = sendfile(&*stream, &file, Some(&mut offset), part)?;
                left -= moved as u64;
            }
        }
        Ok(())
    })?;
    let gibibytes = total as f64 / f64::from(1 << 30);
    Ok(vec![
        ("loopback_write_mb_s", megabytes_per_second(total, written)),
        ("loopback_write_cpu_s_per_gib", write_cpu / gibibytes),
        ("loopback_sendfile_mb_s", megabytes_per_second(total, sent)),
        ("loopback_sendfile_cpu_s_per_gib", send_cpu / gibibytes),
    ])
}

/// Seconds on the clock until the reader has everything, and of the sender's processor time.
fn timed(total: u64, send: impl FnOnce(&mut TcpStream) -> io::Result<()>) -> io::Result<(f64, f64)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let reader = thread::spawn(move || -> io::Result<u64> {
        let (mut stream, _) = listener.accept()?;
        let mut block = vec![0; WRITE_BYTES];
        let mut received = 0;
        loop {
            match stream.read(&mut block)? {
                0 => return Ok(received),
                part => received += part as u64,
            }
        }
    });
    let mut stream = TcpStream::connect(address)?;
    let (begun, cpu) = (Instant::now(), thread_seconds());
    send(&mut stream)?;
    let cpu = thread_seconds() - cpu;
    drop(stream);
    let received = reader.join().map_err(|_| io::Error::other("the reader panicked"))??;
    if received != total {
        return Err(io::Error::other(format!("{received} of {total} bytes arrived")));
    }
    Ok((begun.elapsed().as_secs_f64(), cpu))
}

fn thread_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
