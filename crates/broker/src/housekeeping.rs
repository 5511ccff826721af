//! What is done from time to time: retention, checkpoints, expiry, scrubbing, each with the period its configuration key
//! gives; and the log cleaner, which rests by itself, and moves between log directories.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::ServerConfig;
use ottla_log::{CleanerSettings, LogManager, MoveSettings, ScrubSettings};
use tokio::task::JoinHandle;

use crate::broker::Broker;

/// How often deleted files are looked for.
const REMOVAL_PERIOD: Duration = Duration::from_secs(1);
/// How often as much is verified as the rate allows.
const SCRUB_PERIOD: Duration = Duration::from_secs(1);
/// `log.flush.scheduler.interval.ms` is "never" by default; topics with `flush.ms` are looked at this often.
const LONGEST_FLUSH_PERIOD: Duration = Duration::from_secs(1);

/// Starts the periodic work of a broker; it ends with the broker's shutdown.
pub(crate) fn start(broker: &Arc<Broker>) -> Vec<JoinHandle<()>> {
    // None of these periods can be changed at run time.
    let schedule = broker.config().log_maintenance.clone();
    let delay = millis(schedule.initial_task_delay_ms);
    let flush_period = millis(schedule.flush_scheduler_interval_ms).min(LONGEST_FLUSH_PERIOD);
    start_cleaner(broker.replicas.logs(), &broker.config());
    start_moves(broker.replicas.logs(), &broker.config());
    let world = broker.world.clone();
    let clock = Arc::clone(&world.clock);
    let now = move || clock.wall_ms();
    let (retention_now, expiry_now, scrub_now, flush_now) = (now.clone(), now.clone(), now.clone(), now);
    let configured = Arc::clone(broker);
    vec![
        every(broker, delay, millis(schedule.retention_check_interval_ms), move |logs| {
            let now_ms = retention_now();
            async move { logs.apply_retention(now_ms).await }
        }),
        every(broker, delay, millis(schedule.producer_id_expiration_check_interval_ms), move |logs| {
            let now_ms = expiry_now();
            async move { logs.expire(now_ms).await }
        }),
        checkpoints(broker, delay, millis(schedule.flush_offset_checkpoint_interval_ms)),
        every(broker, delay, millis(schedule.high_watermark_checkpoint_interval_ms), |logs| async move {
            logs.checkpoint_high_watermarks().await;
        }),
        every(broker, delay, REMOVAL_PERIOD, |logs| async move { logs.remove_deleted().await }),
        every(broker, delay, SCRUB_PERIOD, move |logs| {
            let now_ms = scrub_now();
            // These can be changed at run time.
            let maintenance = configured.config().log_maintenance.clone();
            let settings = ScrubSettings {
                bytes_per_second: maintenance.scrub_bytes_per_second,
                interval_ms: maintenance.scrub_interval_ms,
            };
            async move { logs.scrub(settings, now_ms).await }
        }),
        every(broker, delay, flush_period, move |logs| {
            logs.flush_overdue(flush_now());
            std::future::ready(())
        }),
    ]
}

/// Has compacted topics cleaned, as the configuration is now. Every log has its topic's configuration by then.
pub(crate) fn start_cleaner(logs: &LogManager, config: &ServerConfig) {
    let cleaner = &config.log_cleaner;
    if !cleaner.enable {
        return;
    }
    logs.start_cleaner(CleanerSettings {
        threads: cleaner.threads,
        dedupe_buffer_bytes: cleaner.dedupe_buffer_bytes,
        dedupe_buffer_load_factor: cleaner.dedupe_buffer_load_factor,
        io_buffer_bytes: cleaner.io_buffer_bytes,
        io_max_bytes_per_second: cleaner.io_max_bytes_per_second,
        backoff_ms: cleaner.backoff_ms,
    });
}

/// Has partitions moved between log directories, as the configuration is now.
pub(crate) fn start_moves(logs: &LogManager, config: &ServerConfig) {
    let moves = config.log_moves;
    logs.start_moves(MoveSettings { threads: moves.threads, bytes_per_second: moves.io_max_bytes_per_second as f64 });
}

/// Writes the recovery points: from time to time, and whenever much has become durable since.
fn checkpoints(broker: &Arc<Broker>, delay: Duration, period: Duration) -> JoinHandle<()> {
    let logs = broker.replicas.logs().clone();
    let mut shutdown = broker.shutdown.subscribe();
    tokio::spawn(async move {
        let mut wait = delay.max(Duration::from_millis(1));
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = logs.checkpoint_due() => {}
                _ = shutdown.wait_for(|shutdown| *shutdown) => return,
            }
            logs.checkpoint().await;
            wait = period.max(Duration::from_millis(1));
        }
    })
}

fn every<W, F>(broker: &Arc<Broker>, delay: Duration, period: Duration, work: W) -> JoinHandle<()>
where
    W: Fn(LogManager) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let logs = broker.replicas.logs().clone();
    let mut shutdown = broker.shutdown.subscribe();
    tokio::spawn(async move {
        let mut wait = delay.max(Duration::from_millis(1));
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = shutdown.wait_for(|shutdown| *shutdown) => return,
            }
            work(logs.clone()).await;
            wait = period.max(Duration::from_millis(1));
        }
    })
}

fn millis(value: i64) -> Duration {
    Duration::from_millis(value.max(0) as u64)
}
