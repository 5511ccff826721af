//! The machine's own limits, as one line of JSON: loopback, files, syncs, checksums, memory; or, with `--flush`, what it
//! takes to have many small appends on the disk.
//!
//! Each is the best loop that is easy to write; a broker that comes near one has little left to gain there.

mod disk;
mod flush;
mod loopback;
mod memory;

use std::path::PathBuf;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let directory = arguments.next().map(PathBuf::from);
    let options: Vec<_> = arguments.collect();
    let known = options.iter().all(|option| option == "--quick" || option == "--flush");
    let (Some(directory), true) = (directory, known) else {
        eprintln!("usage: ottla-bench-limits DIRECTORY [--flush] [--quick]");
        std::process::exit(2);
    };
    let given = |option: &str| options.iter().any(|given| given == option);
    let quick = given("--quick");
    let figures = if given("--flush") { flush::measure(&directory, quick) } else { measure(&directory, quick) };
    match figures {
        Ok(figures) => {
            let fields: Vec<String> = figures.iter().map(|(name, value)| format!("\"{name}\": {value:.4}")).collect();
            println!("{{{}}}", fields.join(", "));
        }
        Err(error) => {
            eprintln!("ottla-bench-limits: {}: {error}", directory.display());
            std::process::exit(1);
        }
    }
}

fn measure(directory: &std::path::Path, quick: bool) -> std::io::Result<Vec<(String, f64)>> {
    let mebibytes = if quick { 256 } else { 2048 };
    let mut figures = disk::measure(directory, mebibytes)?;
    figures.extend(loopback::measure(directory, mebibytes)?);
    figures.extend(memory::measure(mebibytes));
    Ok(figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Processor time of the calling thread.
fn thread_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Decimal megabytes a second, as the load generators print them.
fn megabytes_per_second(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / 1e6 / seconds
}
