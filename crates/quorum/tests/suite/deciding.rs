//! Decisions see each other, and watchers see what was decided.

use std::sync::Arc;

use ottla_image::MetadataRecord;
use ottla_quorum::{MetadataQuorum, QuorumError, decide};
use ottla_types::Uuid;

use crate::support::{machine, open, process, topic, topic_name, topic_run};

#[test]
fn decisions_on_their_way_are_seen() {
    let machine = machine(1);
    process(async {
        let quorum = Arc::new(open(&machine.world()).await.unwrap());
        let tasks: Vec<_> = (0..400usize)
            .map(|caller| {
                let quorum = Arc::clone(&quorum);
                tokio::spawn(async move {
                    // Eight callers want each topic; one of them makes it.
                    let number = caller / 8;
                    let (_, made) = decide(&*quorum, move |image| {
                        let there = image.topic_by_name(&topic_name(number)).is_some();
                        if there { (Vec::new(), false) } else { (topic(number), true) }
                    })
                    .await
                    .unwrap();
                    let there = quorum.image().topic_by_name(&topic_name(number)).is_some();
                    assert!(there, "who was told that a topic exists finds it committed");
                    made
                })
            })
            .collect();
        let mut made = 0;
        for task in tasks {
            made += usize::from(task.await.unwrap());
        }
        assert_eq!(made, 50);
        assert_eq!(topic_run(&quorum.image()), 50);
        quorum.shutdown().await;
        assert!(matches!(quorum.submit(topic(50)).await, Err(QuorumError::ShutDown)));
    });
}

#[test]
fn a_dropped_proposal_disturbs_nobody() {
    let machine = machine(1);
    process(async {
        let quorum = open(&machine.world()).await.unwrap();
        for number in 0..20 {
            let mut proposal = quorum.submit(topic(number));
            // Polled as far as it goes without waiting, then dropped.
            let polled = std::future::poll_fn(|context| std::task::Poll::Ready(proposal.as_mut().poll(context))).await;
            assert!(polled.is_pending() || number == 0);
            drop(proposal);
            quorum.read_barrier().await.unwrap();
            let (_, seen) = decide(&quorum, |image| (Vec::new(), image.topic_count())).await.unwrap();
            assert_eq!(quorum.image().topic_count(), seen);
            // What was dropped before it was sent is simply not there.
            if seen == number {
                quorum.submit(topic(number)).await.unwrap();
            }
        }
        assert_eq!(topic_run(&quorum.image()), 20);
    });
}

#[test]
fn records_that_do_not_fit_are_refused_and_change_nothing() {
    let machine = machine(1);
    process(async {
        let quorum = open(&machine.world()).await.unwrap();
        let mut records = topic(0);
        records.push(MetadataRecord::RemoveTopic { topic_id: Uuid([1; 16]) });
        assert!(matches!(quorum.submit(records).await, Err(QuorumError::Unfitting(_))));
        assert_eq!(topic_run(&quorum.image()), 0);
        quorum.submit(topic(0)).await.unwrap();
        assert_eq!(topic_run(&quorum.image()), 1);
    });
}

#[test]
fn watchers_miss_nothing() {
    let machine = machine(1);
    process(async {
        let quorum = Arc::new(open(&machine.world()).await.unwrap());
        let mut watch = quorum.watch();
        let following = tokio::spawn(async move {
            let mut created = 0;
            let mut last = None;
            while created < 60 {
                let change = watch.changed().await.unwrap();
                assert!(last.is_none_or(|last| last < change.position));
                last = Some(change.position);
                created += change.delta.topics_created.len();
                assert_eq!(change.image.topic_count(), created);
            }
        });
        let mut late = quorum.watch();
        for number in 0..60 {
            quorum.submit(topic(number)).await.unwrap();
        }
        following.await.unwrap();
        let all = late.changed().await.unwrap();
        assert_eq!(all.delta.topics_created.len(), 60, "who comes late gets one delta over everything");
        quorum.shutdown().await;
        drop(quorum);
        assert!(late.changed().await.is_none());
    });
}
