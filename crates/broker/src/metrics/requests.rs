//! Requests by API: how many, how large, with which errors, and where their time went.
//!
//! A request is counted once, when its response has been sent, or its connection has ended before; its errors are when it
//! is encoded. What most requests
//! do not have (time in a queue, time parked) is recorded only where it is not zero.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use ottla_protocol::{ApiKey, ErrorCodes};
use tokio::time::Instant;

use super::{ApiSnapshot, Histogram, HistogramSnapshot, Sharded};

/// More than the number of any API and of any error; what is beyond is counted with the last.
const APIS: usize = 128;
const ERRORS: usize = 160;
/// The number of the first error, UNKNOWN_SERVER_ERROR.
const FIRST_ERROR: i16 = -1;
const VERSIONS: usize = 32;

/// By API.
#[derive(Debug)]
pub(crate) struct RequestMetrics(Box<[Sharded<ApiMetrics>]>);

#[derive(Debug)]
struct ApiMetrics {
    versions: [AtomicU64; VERSIONS],
    errors: [AtomicU64; ERRORS],
    request_bytes: Histogram,
    response_bytes: Histogram,
    total: Histogram,
    queue: Histogram,
    local: Histogram,
    remote: Histogram,
    response_queue: Histogram,
    send: Histogram,
}

/// Where one request stands, and how long each stage before it took, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    api_key: i16,
    version: i16,
    request_bytes: u32,
    response_bytes: u32,
    /// When the present stage began.
    since: Instant,
    queue: u32,
    local: Option<u32>,
    remote: u32,
    response_queue: u32,
    send: u32,
}

impl Timing {
    /// A frame begins to be handled; all of it was there at `arrived`.
    pub(crate) fn begin(frame: &[u8], arrived: Instant, now: Instant) -> Timing {
        let field = |at: usize| match frame.get(at..at + 2) {
            Some(&[high, low]) => i16::from_be_bytes([high, low]),
            _ => -1,
        };
        Timing {
            api_key: field(0),
            version: field(2),
            request_bytes: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            response_bytes: 0,
            since: now,
            queue: micros(arrived, now),
            local: None,
            remote: 0,
            response_queue: 0,
            send: 0,
        }
    }

    /// How long all of the frame was there before it was handled.
    #[cfg(test)]
    pub(crate) fn queue_micros(&self) -> u32 {
        self.queue
    }

    /// Whether the handler has waited already.
    pub(crate) fn is_parked(&self) -> bool {
        self.local.is_some()
    }

    /// The handler waits for something.
    pub(crate) fn parked(&mut self, now: Instant) {
        self.local = Some(self.lap(now));
    }

    /// The handler has answered.
    pub(crate) fn answered(&mut self, now: Instant) {
        let lap = self.lap(now);
        if self.local.is_some() { self.remote = lap } else { self.local = Some(lap) }
    }

    /// Everything before the response is on its way; the socket gets it now.
    pub(crate) fn queued(&mut self, now: Instant, response_bytes: usize) {
        self.response_queue = self.lap(now);
        self.response_bytes = u32::try_from(response_bytes).unwrap_or(u32::MAX);
    }

    /// The socket has all of it.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.send = self.lap(now);
    }

    fn lap(&mut self, now: Instant) -> u32 {
        micros(std::mem::replace(&mut self.since, now), now)
    }
}

fn micros(from: Instant, to: Instant) -> u32 {
    u32::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u32::MAX)
}

impl Default for RequestMetrics {
    fn default() -> Self {
        RequestMetrics((0..APIS).map(|_| Sharded::default()).collect())
    }
}

impl Default for ApiMetrics {
    fn default() -> Self {
        ApiMetrics {
            versions: [const { AtomicU64::new(0) }; VERSIONS],
            errors: [const { AtomicU64::new(0) }; ERRORS],
            request_bytes: Histogram::default(),
            response_bytes: Histogram::default(),
            total: Histogram::default(),
            queue: Histogram::default(),
            local: Histogram::default(),
            remote: Histogram::default(),
            response_queue: Histogram::default(),
            send: Histogram::default(),
        }
    }
}

impl RequestMetrics {
    /// A request has been answered, and its answer sent; or nobody is there any more to get it.
    pub(crate) fn finished(&self, timing: &Timing) {
        let Some(api) = self.api(timing.api_key) else { return };
        let version = usize::try_from(timing.version).unwrap_or(0).min(VERSIONS - 1);
        api.versions[version].fetch_add(1, Ordering::Relaxed);
        api.request_bytes.record(u64::from(timing.request_bytes));
        api.response_bytes.record(u64::from(timing.response_bytes));
        let Timing { queue, local, remote, response_queue, send, .. } = *timing;
        let local = local.unwrap_or(0);
        api.total.record([queue, local, remote, response_queue, send].into_iter().map(u64::from).sum());
        for (stage, micros) in [
            (&api.queue, queue),
            (&api.local, local),
            (&api.remote, remote),
            (&api.response_queue, response_queue),
            (&api.send, send),
        ] {
            if micros > 0 {
                stage.record(u64::from(micros));
            }
        }
    }

    /// Counts the errors of a response, those that say "none" too.
    pub(crate) fn count_errors(&self, api_key: ApiKey, response: &impl ErrorCodes) {
        let Some(api) = self.api(api_key.code()) else { return };
        let add = |code: i16, times: u64| {
            let index = usize::try_from(i32::from(code) - i32::from(FIRST_ERROR)).unwrap_or(0).min(ERRORS - 1);
            api.errors[index].fetch_add(times, Ordering::Relaxed);
        };
        // The same code many times over is the rule.
        let mut run: (i16, u64) = (0, 0);
        response.error_codes(&mut |code| {
            if code == run.0 {
                run.1 += 1;
            } else {
                if run.1 > 0 {
                    add(run.0, run.1);
                }
                run = (code, 1);
            }
        });
        if run.1 > 0 {
            add(run.0, run.1);
        }
    }

    fn api(&self, api_key: i16) -> Option<&ApiMetrics> {
        Some(self.0.get(usize::try_from(api_key).ok()?)?.here())
    }

    pub(super) fn snapshot(&self) -> BTreeMap<ApiKey, ApiSnapshot> {
        let mut apis = BTreeMap::new();
        for api_key in ApiKey::ALL {
            let Some(sharded) = usize::try_from(api_key.code()).ok().and_then(|code| self.0.get(code)) else {
                continue;
            };
            let shards: Vec<&ApiMetrics> = sharded.all().collect();
            if shards.is_empty() {
                continue;
            }
            let histogram =
                |pick: fn(&ApiMetrics) -> &Histogram| HistogramSnapshot::of(shards.iter().copied().map(pick));
            let total_micros = histogram(|api| &api.total);
            let stage = |pick: fn(&ApiMetrics) -> &Histogram| histogram(pick).filled_to(total_micros.count());
            let snapshot = ApiSnapshot {
                requests: sums(&shards, |api| &api.versions, 0),
                errors: sums(&shards, |api| &api.errors, FIRST_ERROR),
                request_bytes: histogram(|api| &api.request_bytes),
                response_bytes: histogram(|api| &api.response_bytes),
                queue_micros: stage(|api| &api.queue),
                local_micros: stage(|api| &api.local),
                remote_micros: stage(|api| &api.remote),
                response_queue_micros: stage(|api| &api.response_queue),
                send_micros: stage(|api| &api.send),
                total_micros,
            };
            apis.insert(api_key, snapshot);
        }
        apis
    }
}

/// The counts that are not zero, by what they count.
fn sums<const N: usize>(
    shards: &[&ApiMetrics],
    pick: fn(&ApiMetrics) -> &[AtomicU64; N],
    first: i16,
) -> BTreeMap<i16, u64> {
    let sum = |index: usize| shards.iter().map(|api| pick(api)[index].load(Ordering::Relaxed)).sum::<u64>();
    (0..N).map(|index| (index as i16 + first, sum(index))).filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ottla_protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};

    use super::*;

    #[test]
    fn numbers_of_apis_and_errors_fit() {
        assert!(ApiKey::ALL.iter().all(|key| (key.code() as usize) < APIS));
        assert!(ApiKey::ALL.iter().all(|key| (*key.valid_versions().end() as usize) < VERSIONS));
        let last = ottla_types::ErrorCode::ALL.iter().map(|code| code.code()).max().unwrap();
        assert!(((last - FIRST_ERROR) as usize) < ERRORS);
    }

    #[test]
    fn each_stage_has_its_time() {
        let metrics = RequestMetrics::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut parked = Timing::begin(&[0, 0, 0, 9, 7], start, at(1));
        parked.parked(at(3));
        parked.answered(at(10));
        parked.queued(at(14), 80);
        parked.sent(at(19));
        metrics.finished(&parked);
        let mut simple = Timing::begin(&[0, 0, 0, 9, 7], at(20), at(20));
        simple.answered(at(21));
        simple.queued(at(21), 80);
        simple.sent(at(21));
        metrics.finished(&simple);
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.len(), 1);
        let produce = &snapshot[&ApiKey::Produce];
        assert_eq!(produce.requests, BTreeMap::from([(9, 2)]));
        for (stage, sum) in [
            (&produce.total_micros, 20_000),
            (&produce.queue_micros, 1_000),
            (&produce.local_micros, 3_000),
            (&produce.remote_micros, 7_000),
            (&produce.response_queue_micros, 4_000),
            (&produce.send_micros, 5_000),
            (&produce.request_bytes, 10),
            (&produce.response_bytes, 160),
        ] {
            assert_eq!((stage.count(), stage.sum()), (2, sum));
        }
        assert_eq!(produce.remote_micros.quantile(0.5), 0);
    }

    #[test]
    fn every_error_of_a_response_counts() {
        let metrics = RequestMetrics::default();
        let partition = |error_code| PartitionProduceResponse { error_code, ..Default::default() };
        let topic = |codes: &[i16]| TopicProduceResponse {
            partition_responses: codes.iter().copied().map(partition).collect(),
            ..Default::default()
        };
        let responses = vec![topic(&[0, 0, 3, 3, 3]), topic(&[-1, 0, 9999])];
        metrics.count_errors(ApiKey::Produce, &ProduceResponse { responses, ..Default::default() });
        let last = ERRORS as i16 + FIRST_ERROR - 1;
        assert_eq!(metrics.snapshot()[&ApiKey::Produce].errors, BTreeMap::from([(-1, 1), (0, 3), (3, 3), (last, 1)]));
    }
}
