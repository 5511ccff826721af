//! Rounds of a flusher: some files have each got a few bytes more, and all of them have to be on the disk.
//!
//! Each way begins with the same dirty files, and the ways take turns, so that what else the disk does meets all of them.

use std::fs::{File, OpenOptions, create_dir, remove_dir_all};
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a partition has got since the last round.
const APPENDED: [u8; 200] = [0x5a; 200];
/// What a journal writes in front of it: whose it is and where it belongs.
const JOURNAL_HEADER_BYTES: usize = 60;
const LARGEST: usize = 5_000;

const COUNTS: [usize; 7] = [1, 4, 10, 30, 100, 1_000, LARGEST];

#[derive(Clone, Copy)]
enum Way {
    OneByOne,
    Threads(usize),
    FileSystem,
    Journal,
}

const WAYS: [(&str, Way); 6] = [
    ("fdatasync_one_by_one", Way::OneByOne),
    ("fdatasync_16_threads", Way::Threads(16)),
    ("fdatasync_32_threads", Way::Threads(32)),
    ("fdatasync_64_threads", Way::Threads(64)),
    ("syncfs", Way::FileSystem),
    ("journal", Way::Journal),
];

/// Medians and 99th percentiles in milliseconds, by way and number of files.
pub fn measure(directory: &Path, quick: bool) -> io::Result<Vec<(String, f64)>> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let path = directory.join("limits-flush");
    create_dir(&path)?;
    let figures = measure_in(&path, quick);
    remove_dir_all(&path)?;
    figures
}

fn measure_in(path: &Path, quick: bool) -> io::Result<Vec<(String, f64)>> {
    let open = |name: String| OpenOptions::new().append(true).create(true).open(path.join(name));
    let files: Vec<File> = (0..LARGEST).map(|number| open(format!("partition-{number}"))).collect::<io::Result<_>>()?;
    let journal = open("journal".to_owned())?;
    let directory = File::open(path)?;
    dirty(&files)?;
    rustix::fs::syncfs(&directory)?;

    let mut figures = Vec::new();
    for count in COUNTS {
        let files = &files[..count];
        let rounds = match count {
            0..=100 if quick => 20,
            0..=100 => 100,
            _ if quick => 3,
            _ => 20,
        };
        let mut taken: Vec<Vec<f64>> = vec![Vec::new(); WAYS.len()];
        for round in 0..rounds {
            for (way, taken) in WAYS.iter().map(|(_, way)| *way).zip(&mut taken) {
                // One by one is known to be slow: a few rounds say how slow.
                if matches!(way, Way::OneByOne) && count > 100 && round >= 3 {
                    continue;
                }
                dirty(files)?;
                let begun = Instant::now();
                flush(way, files, &journal, &directory)?;
                taken.push(begun.elapsed().as_secs_f64() * 1e3);
                // What a journal leaves dirty is none of the next round's work.
                if matches!(way, Way::Journal) {
                    flush(Way::Threads(16), files, &journal, &directory)?;
                }
            }
        }
        for ((name, _), mut taken) in WAYS.iter().zip(taken) {
            taken.sort_by(f64::total_cmp);
            figures.push((format!("{name}_{count}_p50_ms"), taken[taken.len() / 2]));
            figures.push((format!("{name}_{count}_p99_ms"), taken[taken.len() * 99 / 100]));
        }
    }
    Ok(figures)
}

fn dirty(files: &[File]) -> io::Result<()> {
    files.iter().try_for_each(|mut file| file.write_all(&APPENDED))
}

fn flush(way: Way, files: &[File], mut journal: &File, directory: &File) -> io::Result<()> {
    match way {
        Way::OneByOne => files.iter().try_for_each(File::sync_data),
        Way::Threads(threads) => std::thread::scope(|scope| {
            let lanes = threads.min(files.len());
            let lane = |first: usize| move || files.iter().skip(first).step_by(lanes).try_for_each(File::sync_data);
            let running: Vec<_> = (0..lanes).map(|first| scope.spawn(lane(first))).collect();
            let ended = |lane: std::thread::ScopedJoinHandle<'_, io::Result<()>>| {
                lane.join().map_err(|_| io::Error::other("a thread panicked"))?
            };
            running.into_iter().try_for_each(ended)
        }),
        Way::FileSystem => Ok(rustix::fs::syncfs(directory)?),
        Way::Journal => {
            journal.write_all(&vec![0x5a; files.len() * (APPENDED.len() + JOURNAL_HEADER_BYTES)])?;
            journal.sync_data()
        }
    }
}
