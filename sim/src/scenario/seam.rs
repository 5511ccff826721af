//! The simulator's own check: the smallest store that is right, so that a failure here is the simulator's.
//!
//! A request is a number; it is appended to a file with a check sum, synced, and echoed. A restart cuts the file at
//! the first entry that is torn. Zero asks for all numbers.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use ottla_rt::{DiskFile, OpenMode, ReadHalf, World, WriteHalf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::driver::{Faults, Planted, Progress, Run, SERVER, drive};
use crate::machine::Machine;

const PORT: u16 = 7;
const ENTRY: usize = 16;

pub fn run(run: &Run) -> anyhow::Result<()> {
    let machine = Machine::new(run.seed, &run.trace);
    let scan = run.planted != Some(Planted::RecoveryScanOff);
    let faults = Faults { network: true, power_during_operations: true, disk_errors: true };
    // The client is no part of the server's machine, but speaks through the same network.
    let (other, counts) = (Machine::new(!run.seed, &run.trace), Rc::clone(&run.counts));
    drive(
        run,
        &machine,
        faults,
        move |world| serve(world, scan),
        move |progress| async move {
            let mut acknowledged = BTreeSet::new();
            let mut next = 1_u64;
            while !progress.healing() {
                // Whatever goes wrong on the way: the number may be there or not.
                let _ = tokio::time::timeout(
                    Duration::from_secs(1),
                    send(&other.world(), &progress, &mut next, &mut acknowledged),
                )
                .await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let found = read_all(&other.world()).await?;
            ensure!(found.is_sorted(), "numbers came back out of order");
            let found: BTreeSet<u64> = found.into_iter().collect();
            let lost: Vec<_> = acknowledged.difference(&found).collect();
            ensure!(lost.is_empty(), "{} acknowledged numbers are lost, first {:?}", lost.len(), lost[0]);
            let invented: Vec<_> = found.iter().filter(|number| **number >= next).collect();
            ensure!(invented.is_empty(), "{} numbers nobody sent", invented.len());
            let mut counts = counts.borrow_mut();
            counts.acknowledged += acknowledged.len() as u64;
            counts.verified += found.len() as u64;
            Ok(())
        },
    )
}

async fn connect(world: &World) -> anyhow::Result<(Box<dyn ReadHalf>, Box<dyn WriteHalf>)> {
    Ok(world.net.connect(SERVER, PORT).await?.split())
}

async fn send(
    world: &World,
    progress: &Progress,
    next: &mut u64,
    acknowledged: &mut BTreeSet<u64>,
) -> anyhow::Result<()> {
    let (mut read, mut write) = connect(world).await?;
    while !progress.healing() {
        let number = *next;
        *next += 1;
        write.write_u64(number).await?;
        ensure!(read.read_u64().await? == number, "the answer is to another request");
        acknowledged.insert(number);
    }
    Ok(())
}

async fn read_all(world: &World) -> anyhow::Result<Vec<u64>> {
    let (mut read, mut write) = connect(world).await.context("connecting to the healed server")?;
    write.write_u64(0).await?;
    let count = read.read_u64().await?;
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(read.read_u64().await?);
    }
    Ok(found)
}

fn check_sum(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d
}

async fn serve(world: World, scan: bool) -> anyhow::Result<()> {
    let (mut entries, file) = recover(&world, scan)?;
    let listener = world.net.bind(([0, 0, 0, 0], PORT).into()).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (mut read, mut write) = stream.split();
        loop {
            // One connection at a time will do here; a silent one is left.
            let request = tokio::time::timeout(Duration::from_secs(2), read.read_u64()).await;
            let Ok(Ok(number)) = request else { break };
            if number == 0 {
                let answer = [entries.len() as u64].into_iter().chain(entries.iter().copied());
                let answer: Vec<u8> = answer.flat_map(u64::to_be_bytes).collect();
                if write.write_all(&answer).await.is_err() {
                    break;
                }
                continue;
            }
            let entry = [number.to_be_bytes(), check_sum(number).to_be_bytes()].concat();
            file.write_all_at(&[IoSlice::new(&entry)], (entries.len() * ENTRY) as u64)?;
            entries.push(number);
            for result in world.disk.sync_files(vec![Arc::clone(&file)]).await {
                result?;
            }
            if write.write_u64(number).await.is_err() {
                break;
            }
        }
    }
}

fn recover(world: &World, scan: bool) -> anyhow::Result<(Vec<u64>, Arc<dyn DiskFile>)> {
    let path = Path::new("/numbers.log");
    let file = world.disk.open(path, OpenMode::CreateOrOpen)?;
    world.disk.sync_dir(Path::new("/"))?;
    let bytes = world.disk.read_file(path, 1 << 30)?;
    let mut entries = Vec::new();
    for entry in bytes.chunks_exact(ENTRY) {
        let word = |at: usize| entry[at..at + 8].iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        if scan && word(8) != check_sum(word(0)) {
            break;
        }
        entries.push(word(0));
    }
    file.set_len((entries.len() * ENTRY) as u64)?;
    file.sync_all()?;
    Ok((entries, file))
}
