//! The memory of the newest batches, while appends and evictions meet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Batch, Machine, append};

#[expect(clippy::disallowed_methods, reason = "two threads that meet are what is tested")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_given_up_while_it_is_appended_is_counted_once() {
    let machine = Machine::new(1);
    let (manager, log) = machine.start().await;
    let done = Arc::new(AtomicBool::new(false));
    let evicting = std::thread::spawn({
        let (manager, done) = (manager.clone(), Arc::clone(&done));
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            while !done.load(Ordering::Relaxed) {
                // So late that every tail is idle.
                runtime.block_on(manager.expire(i64::MAX));
            }
        }
    });
    let batch = Batch::sized(5000);
    for _ in 0..3000 {
        append(&log, &batch).unwrap();
    }
    done.store(true, Ordering::Relaxed);
    evicting.join().expect("nothing was released twice");
    manager.expire(i64::MAX).await;
    assert_eq!(manager.hot_tail_bytes(), 0);
}
