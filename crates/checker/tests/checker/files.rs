//! Histories as lines of JSON.

use ottla_checker::{Action, History, OperationId, Outcome, ReadProblem, Step, check};

const HISTORY: &str = r#"{"process":0,"time":1,"type":"invoke","f":"assign","keys":["x-0"],"seek_to_beginning":true}
{"process":0,"time":2,"type":"ok","f":"assign","keys":["x-0"],"seek_to_beginning":true}
{"process":1,"time":2,"type":"invoke","f":"txn","steps":[{"send":["x-0",null,17]},{"poll":[]}]}
{"process":0,"time":3,"type":"invoke","f":"poll","steps":[{"poll":[]}]}
{"process":1,"time":4,"type":"ok","f":"txn","steps":[{"send":["x-0",5,17]},{"poll":[["y \"1\"",0,3],["y \"1\"",2,4]]}]}
{"process":0,"time":5,"type":"info","f":"poll","steps":[{"poll":[]}],"rebalanced":["x-0"],"error":"timed out"}
{"process":2,"time":6,"type":"invoke","f":"crash"}
{"process":2,"time":6,"type":"info","f":"crash","error":"crashed"}
{"process":3,"time":7,"type":"invoke","f":"subscribe","keys":["x-0","y \"1\""]}
{"process":3,"time":7,"type":"fail","f":"subscribe","keys":["x-0","y \"1\""],"error":"refused"}
{"process":4,"time":8,"type":"invoke","f":"send","steps":[{"send":["x-0",null,18]}]}
"#;

fn read(text: &str) -> History {
    History::read_jsonl(text.as_bytes()).unwrap()
}

fn written(history: &History) -> String {
    let mut bytes = Vec::new();
    history.write_jsonl(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn what_is_read_is_written_again() {
    let history = read(HISTORY);
    assert_eq!(history.operations().len(), 6);
    assert_eq!(written(&history), HISTORY);
    let polled = history.operation(OperationId(2));
    assert_eq!((polled.outcome, polled.rebalanced.len()), (Outcome::Info, 1));
    assert_eq!(polled.error.as_deref(), Some("timed out"));
    assert_eq!(history.operation(OperationId(5)).completed, None);
}

#[test]
fn empty_lines_and_a_missing_last_newline_are_no_matter() {
    let with_gaps = HISTORY.replace('\n', "\n\n  \n");
    assert_eq!(written(&read(with_gaps.trim_end())), HISTORY);
    assert!(read("").operations().is_empty());
}

#[test]
fn a_completion_may_leave_out_what_was_invoked() {
    let history = read(
        r#"{"process":0,"time":1,"type":"invoke","f":"send","steps":[{"send":["x-0",null,17]}]}
           {"process":0,"time":2,"type":"info","f":"send"}
           {"process":1,"time":3,"type":"invoke","f":"assign","keys":["x-0"],"seek_to_beginning":true}
           {"process":1,"time":4,"type":"ok","f":"assign"}"#,
    );
    let x = history.keys().next().unwrap();
    assert_eq!(history.operations()[0].steps(), [Step::send(x, 17)]);
    assert_eq!(history.operations()[1].action, Action::Assign { keys: vec![x], seek_to_beginning: true });
}

#[test]
fn what_cannot_be_read_is_named_with_its_line() {
    let check = |lines: &[&str], line: u64, expected: fn(&ReadProblem) -> bool| {
        let error = History::read_jsonl(lines.join("\n").as_bytes()).unwrap_err();
        assert_eq!(error.line, line, "{error:?}");
        assert!(expected(&error.problem), "{error:?}");
    };
    let invoke = r#"{"process":0,"time":5,"type":"invoke","f":"send","steps":[{"send":["x-0",null,17]}]}"#;
    check(&[invoke, "{"], 2, |problem| matches!(problem, ReadProblem::Json(_)));
    check(&[r#"{"process":0,"time":5,"type":"invoke","f":"sed"}"#], 1, |problem| {
        matches!(problem, ReadProblem::Json(_))
    });
    check(&[r#"{"process":0,"time":5,"type":"invoke","f":"poll","stesp":[]}"#], 1, |problem| {
        matches!(problem, ReadProblem::Json(_))
    });
    check(&[invoke, "", invoke], 3, |problem| {
        matches!(problem, ReadProblem::ProcessIsBusy { unfinished: OperationId(0), .. })
    });
    check(&[r#"{"process":0,"time":5,"type":"ok","f":"poll"}"#], 1, |problem| {
        matches!(problem, ReadProblem::NotInvoked { .. })
    });
    check(&[invoke, r#"{"process":0,"time":4,"type":"ok","f":"send"}"#], 2, |problem| {
        matches!(problem, ReadProblem::TimeGoesBack { time_ns: 4, last_ns: 5 })
    });
    let negative = r#"{"process":0,"time":5,"type":"ok","f":"send","steps":[{"send":["x-0",-1,17]}]}"#;
    check(&[invoke, negative], 2, |problem| matches!(problem, ReadProblem::NegativeOffset { offset: -1 }));
    for other in [
        r#""f":"crash""#,
        r#""f":"assign","keys":["x-0"]"#,
        r#""f":"send","steps":[]"#,
        r#""f":"send","steps":[{"send":["x-0",0,18]}]"#,
        r#""f":"send","steps":[{"send":["x-1",0,17]}]"#,
        r#""f":"txn","steps":[{"poll":[]}]"#,
    ] {
        let other = format!(r#"{{"process":0,"time":5,"type":"ok",{other}}}"#);
        check(&[invoke, &other], 2, |problem| matches!(problem, ReadProblem::CompletionDiffers { .. }));
    }
}

#[test]
fn an_offset_costs_nothing() {
    let history = read(&format!(
        r#"{{"process":0,"time":1,"type":"invoke","f":"send","steps":[{{"send":["x-0",null,17]}}]}}
           {{"process":0,"time":2,"type":"ok","f":"send","steps":[{{"send":["x-0",{0},17]}}]}}
           {{"process":1,"time":3,"type":"invoke","f":"poll","steps":[{{"poll":[]}}]}}
           {{"process":1,"time":4,"type":"ok","f":"poll","steps":[{{"poll":[["x-0",{0},17]]}}]}}"#,
        i64::MAX
    ));
    let report = check(&history).unwrap();
    assert!(report.is_valid(), "{report}");
}

#[test]
fn a_value_sent_twice_is_no_history() {
    let twice = r#"{"process":0,"time":1,"type":"invoke","f":"send","steps":[{"send":["x-0",null,17]}]}
        {"process":1,"time":1,"type":"invoke","f":"send","steps":[{"send":["x-0",null,17]}]}"#;
    let error = check(&read(twice)).unwrap_err();
    assert_eq!(error.to_string(), "value 17 was sent to x-0 by operation 0 and by operation 1: each is sent once");
}
