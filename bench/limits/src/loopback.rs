//! One connection over loopback to a reader that throws everything away: from memory, and from a file by sendfile; as a
//! stream, and in answers that are asked for one after the other as a consumer asks.

use std::fs::{File, remove_file};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Instant;

use rustix::fs::sendfile;

use crate::{megabytes_per_second, thread_seconds};

const FILE_BYTES: usize = 64 << 20;
const BLOCK_BYTES: usize = 256 << 10;
/// What a consumer takes of a partition at once, by default.
const ANSWER_BYTES: usize = 1 << 20;

pub fn measure(directory: &Path, mebibytes: u64) -> io::Result<Vec<(&'static str, f64)>> {
    let total = mebibytes << 20;
    let memory = vec![0x5a_u8; FILE_BYTES];
    let path = directory.join("limits-sendfile");
    File::create(&path)?.write_all(&memory)?;
    let file = File::open(&path)?;
    remove_file(&path)?;
    let write =
        |stream: &mut TcpStream, position: usize, length: usize| stream.write_all(&memory[position..position + length]);
    let send = |stream: &mut TcpStream, position: usize, length: usize| {
        let (mut from, end) = (position as u64, (position + length) as u64);
        while from < end {
            let left = (end - from) as usize;
            sendfile(&*stream, &file, Some(&mut from), left)?;
        }
        Ok(())
    };
    let written = timed(total, None, write)?;
    let sent = timed(total, None, send)?;
    let written_answers = timed(total, Some(ANSWER_BYTES), write)?;
    let sent_answers = timed(total, Some(ANSWER_BYTES), send)?;
    let gibibytes = total as f64 / f64::from(1 << 30);
    Ok(vec![
        ("loopback_write_mb_s", megabytes_per_second(total, written.seconds)),
        ("loopback_write_cpu_s_per_gib", written.sender / gibibytes),
        ("loopback_read_cpu_s_per_gib", written.reader / gibibytes),
        ("loopback_sendfile_mb_s", megabytes_per_second(total, sent.seconds)),
        ("loopback_sendfile_cpu_s_per_gib", sent.sender / gibibytes),
        ("loopback_write_answers_cpu_s_per_gib", written_answers.sender / gibibytes),
        ("loopback_sendfile_answers_cpu_s_per_gib", sent_answers.sender / gibibytes),
    ])
}

/// Seconds on the clock until the reader has everything, and of the processor time of both.
struct Timed {
    seconds: f64,
    sender: f64,
    reader: f64,
}

/// Sends so many bytes by `send`, which is told a position and a length within the file; with `answers` the reader asks for
/// each of that length when it has the one before.
fn timed(
    total: u64,
    answers: Option<usize>,
    mut send: impl FnMut(&mut TcpStream, usize, usize) -> io::Result<()>,
) -> io::Result<Timed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let reader = thread::spawn(move || -> io::Result<(u64, f64)> {
        let (mut stream, _) = listener.accept()?;
        let mut block = vec![0; BLOCK_BYTES];
        let (mut received, mut answered) = (0, 0);
        let begun = thread_seconds();
        loop {
            match stream.read(&mut block)? {
                0 => return Ok((received, thread_seconds() - begun)),
                part => (received, answered) = (received + part as u64, answered + part),
            }
            if let Some(length) = answers
                && answered >= length
            {
                answered -= length;
                stream.write_all(&[0])?;
            }
        }
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (begun, cpu) = (Instant::now(), thread_seconds());
    let part = answers.unwrap_or(BLOCK_BYTES);
    let mut left = total;
    while left > 0 {
        let position = ((total - left) % FILE_BYTES as u64) as usize;
        let length = left.min(part as u64) as usize;
        send(&mut stream, position, length)?;
        if answers.is_some() {
            stream.read_exact(&mut [0])?;
        }
        left -= length as u64;
    }
    let cpu = thread_seconds() - cpu;
    drop(stream);
    let (received, reader) = reader.join().map_err(|_| io::Error::other("the reader panicked"))??;
    if received != total {
        return Err(io::Error::other(format!("{received} of {total} bytes arrived")));
    }
    Ok(Timed { seconds: begun.elapsed().as_secs_f64(), sender: cpu, reader })
}
