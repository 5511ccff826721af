//! The report as one HTML file, without scripts and without anything to be fetched.

use std::fmt::Write;

use super::plot::{Axis, Plot, Series, Ticks, escape};
use super::recorder::{Latencies, Sample};
use super::report::{Kind, MEBIBYTE, PERCENTILES, Report, duration, grouped, per_second};
use super::run::Second;

const STYLE: &str = include_str!("report.css");

pub fn render(report: &Report) -> String {
    let title = format!("ottla perf {}: {}", report.kind.name(), topic(report));
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"/>\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1><b>ottla perf {kind}</b> {topic}</h1>\n<p>{subtitle}</p>\n</header>\n<main>\n",
        title = escape(&title),
        kind = report.kind.name(),
        topic = escape(&topic(report)),
        subtitle = escape(&subtitle(report)),
    );
    cards(&mut html, report);
    for plot in plots(report) {
        let _ = write!(
            html,
            "<section>\n<h2>{}</h2>\n{}\n{}\n</section>\n",
            escape(plot.title),
            plot.legend(),
            plot.render()
        );
    }
    latency_table(&mut html, report);
    errors(&mut html, report);
    html.push_str("<div class=\"columns\">\n");
    pairs(&mut html, "Settings", &report.measured.settings);
    pairs(&mut html, "Environment", &report.environment.0);
    html.push_str("</div>\n</main>\n</body>\n</html>\n");
    html
}

fn topic(report: &Report) -> String {
    let found = report.measured.settings.iter().find(|(name, _)| *name == "topic");
    found.map_or_else(String::new, |(_, value)| value_text(value))
}

fn subtitle(report: &Report) -> String {
    let environment = |wanted: &str| {
        let found = report.environment.0.iter().find(|(name, _)| *name == wanted);
        found.map_or_else(String::new, |(_, value)| value_text(value))
    };
    let seconds = report.measured.elapsed.as_secs_f64();
    format!("{seconds:.1} s measured against {}, begun {}", environment("bootstrap_server"), environment("started_at"))
}

fn cards(html: &mut String, report: &Report) {
    let mut cards: Vec<(String, String, String)> = Vec::new();
    for (name, volume) in report.volumes() {
        let elapsed = report.measured.elapsed;
        let records = per_second(volume.records, elapsed);
        let mebibytes = per_second(volume.bytes, elapsed) / MEBIBYTE;
        cards.push((
            format!("{name}, records/s"),
            grouped(records as u64),
            format!("{mebibytes:.2} MiB/s, {} records", grouped(volume.records)),
        ));
    }
    for (name, _, latencies) in report.latencies() {
        let rest = format!("p50 {}, max {}", duration(latencies.percentile(50.0)), duration(latencies.max()));
        cards.push((format!("{name}, p99"), duration(latencies.percentile(99.0)), rest));
    }
    if let Some(per_million) = report.cpu_per_million() {
        let total = format!("per million records, {:.2} s in all", report.measured.cpu.total.as_secs_f64());
        cards.push(("client CPU".to_owned(), format!("{per_million:.2} s"), total));
    }
    let lost = report.measured.lost.map_or_else(String::new, |lost| format!("{} lost", grouped(lost)));
    cards.push(("errors".to_owned(), grouped(report.measured.total.error_count()), lost));
    html.push_str("<div class=\"cards\">\n");
    for (name, value, rest) in cards {
        let (name, value, rest) = (escape(&name), escape(&value), escape(&rest));
        let _ =
            writeln!(html, "<div class=\"card\"><h3>{name}</h3><strong>{value}</strong><small>{rest}</small></div>");
    }
    html.push_str("</div>\n");
}

fn plots(report: &Report) -> Vec<Plot> {
    let mut plots = vec![throughput(report)];
    if report.kind.produces() {
        let acknowledged = |sample: &Sample| sample.acknowledged.clone();
        plots.push(latency_over_time(report, "Acknowledged: latency over time", acknowledged));
    }
    if report.kind == Kind::EndToEnd {
        let end_to_end = |sample: &Sample| sample.end_to_end.clone();
        plots.push(latency_over_time(report, "End to end: latency over time", end_to_end));
    }
    if report.latencies().iter().any(|(.., latencies)| latencies.histogram().is_some()) {
        plots.push(by_percentile(report));
    }
    plots
}

/// The end of each second, from the start on.
fn over_time(report: &Report, value: impl Fn(&Second) -> f64) -> Vec<(f64, f64)> {
    let mut time = 0.0;
    let mut points = Vec::new();
    for second in &report.measured.seconds {
        time += second.length.as_secs_f64();
        // What is left of the last second says little.
        if second.length.as_secs_f64() > 0.3 || report.measured.seconds.len() == 1 {
            points.push((time, value(second)));
        }
    }
    points
}

fn warm_up(report: &Report) -> Option<f64> {
    let seconds = report.measured.seconds.iter().take_while(|second| second.warm_up);
    Some(seconds.map(|second| second.length.as_secs_f64()).sum()).filter(|&sum: &f64| sum > 0.0)
}

fn time_axis() -> Axis {
    Axis { label: "seconds", logarithmic: false, ticks: Ticks::Round(|value| format!("{value}")) }
}

fn throughput(report: &Report) -> Plot {
    let mut series = Vec::new();
    if report.kind.produces() {
        let points = over_time(report, |second| per_second(second.sample.produced.records, second.length));
        series.push(Series { name: "acknowledged".to_owned(), class: "a", points, filled: true });
    }
    if report.kind.consumes() {
        let points = over_time(report, |second| per_second(second.sample.consumed.records, second.length));
        let filled = series.is_empty();
        series.push(Series { name: "received".to_owned(), class: "b", points, filled });
    }
    let ticks = Ticks::Round(|value| grouped(value as u64));
    let y = Axis { label: "records/s", logarithmic: false, ticks };
    Plot { title: "Throughput over time", x: time_axis(), y, series, shaded: warm_up(report) }
}

fn latency_over_time(report: &Report, title: &'static str, of: impl Fn(&Sample) -> Latencies) -> Plot {
    const LINES: [(f64, &str, &str); 4] =
        [(50.0, "p50", "a"), (90.0, "p90", "b"), (99.0, "p99", "c"), (99.9, "p99.9", "d")];
    let known = |points: Vec<(f64, f64)>| points.into_iter().filter(|point| point.1 > 0.0).collect();
    let mut series: Vec<Series> = LINES
        .iter()
        .map(|&(percentile, name, class)| {
            let points = known(over_time(report, |second| of(&second.sample).percentile(percentile) as f64));
            Series { name: name.to_owned(), class, points, filled: false }
        })
        .collect();
    let points = known(over_time(report, |second| of(&second.sample).max() as f64));
    series.push(Series { name: "max".to_owned(), class: "e", points, filled: false });
    let y = Axis { label: "latency", logarithmic: true, ticks: Ticks::Round(tick_duration) };
    Plot { title, x: time_axis(), y, series, shaded: warm_up(report) }
}

/// Each step to the right leaves a tenth of the records.
fn by_percentile(report: &Report) -> Plot {
    let remoteness = |percentile: f64| -(1.0 - percentile / 100.0).log10();
    let mut series = Vec::new();
    for ((name, _, latencies), class) in report.latencies().into_iter().zip(["a", "b"]) {
        let Some(histogram) = latencies.histogram() else { continue };
        // Beyond this there is less than a record.
        let last = (histogram.len() as f64).log10();
        let points = (0..1000)
            .map(|step| f64::from(step) / 20.0)
            .take_while(|remote| *remote < last)
            .map(|remote| (remote, histogram.value_at_quantile(1.0 - 10f64.powf(-remote)) as f64))
            .chain([(last, histogram.max() as f64)])
            .collect();
        series.push(Series { name: name.to_owned(), class, points, filled: false });
    }
    let ticks = [(0.0, "0 %"), (50.0, "50 %"), (90.0, "90 %"), (99.0, "99 %"), (99.9, "99.9 %"), (99.99, "99.99 %")];
    let further = [(99.999, "99.999 %"), (99.9999, "99.9999 %"), (99.99999, "99.99999 %")];
    let ticks = ticks.into_iter().chain(further).map(|(percentile, label)| (remoteness(percentile), label.to_owned()));
    let x = Axis {
        label: "share of the records that are faster",
        logarithmic: false,
        ticks: Ticks::Fixed(ticks.collect()),
    };
    let y = Axis { label: "latency", logarithmic: true, ticks: Ticks::Round(tick_duration) };
    Plot { title: "Latency by percentile", x, y, series, shaded: None }
}

/// Round microseconds.
fn tick_duration(micros: f64) -> String {
    match micros {
        ..1000.0 => format!("{micros:.0} µs"),
        1000.0..1e6 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.0} s", micros / 1e6),
    }
}

fn latency_table(html: &mut String, report: &Report) {
    let latencies = report.latencies();
    if latencies.is_empty() {
        return;
    }
    html.push_str("<section>\n<h2>Latencies</h2>\n<table>\n<tr><th></th><th>mean</th>");
    for (_, heading, _) in PERCENTILES {
        let _ = write!(html, "<th>{}</th>", heading.to_lowercase());
    }
    html.push_str("<th>max</th></tr>\n");
    for (name, _, latencies) in latencies {
        let mean = latencies.histogram().map_or(0.0, hdrhistogram::Histogram::mean);
        let _ = write!(html, "<tr><th>{name}</th><td>{}</td>", duration(mean as u64));
        for (percentile, ..) in PERCENTILES {
            let _ = write!(html, "<td>{}</td>", duration(latencies.percentile(percentile)));
        }
        let _ = writeln!(html, "<td>{}</td></tr>", duration(latencies.max()));
    }
    html.push_str("</table>\n");
    if let Some(note) = report.latency_note() {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(note));
    }
    html.push_str("</section>\n");
}

fn errors(html: &mut String, report: &Report) {
    let errors = &report.measured.total.errors;
    if errors.is_empty() {
        return;
    }
    html.push_str("<section>\n<h2>Errors</h2>\n<table>\n");
    for (kind, count) in errors {
        let _ = writeln!(html, "<tr><th>{}</th><td>{}</td></tr>", escape(kind), grouped(*count));
    }
    html.push_str("</table>\n</section>\n");
}

fn pairs(html: &mut String, title: &str, pairs: &[(&'static str, serde_json::Value)]) {
    let _ = write!(html, "<section>\n<h2>{title}</h2>\n<table>\n");
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_null()) {
        let _ = writeln!(html, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(&value_text(value)));
    }
    html.push_str("</table>\n</section>\n");
}

fn value_text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    /// Every element is closed in its turn, every attribute quoted, and nothing stands there unescaped.
    pub fn check_well_formed(html: &str) {
        let mut rest = html.strip_prefix("<!DOCTYPE html>").unwrap();
        let mut open: Vec<&str> = Vec::new();
        let mut ids = 0;
        while let Some(begin) = rest.find('<') {
            let text = &rest[..begin];
            let entity =
                |after: &str| ["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|name| after.starts_with(name));
            assert!(open.last() == Some(&"style") || text.split('&').skip(1).all(entity), "{text}");
            let end = begin + rest[begin..].find('>').unwrap();
            let tag = &rest[begin + 1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "closed in its turn");
                continue;
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            assert!(!tag.contains('<'), "{tag}");
            let name = tag.split([' ', '/']).next().unwrap();
            ids += 1;
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert_eq!(open, Vec::<&str>::new(), "everything is closed");
        assert!(rest.trim().is_empty() && ids > 50);
    }

    #[test]
    fn a_report_is_well_formed_and_needs_nothing_else() {
        let html = render(&report());
        check_well_formed(&html);
        for foreign in ["<script", "http://", "https://", "@import", "url(", "<link", "<img"] {
            let own = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!own.contains(foreign), "{foreign}");
        }
        assert!(html.contains("a&lt;b&gt;&amp;&quot;c&quot;"), "the topic is text");
        assert_eq!(html.matches("<svg").count(), 4);
        for part in [
            "Throughput over time",
            "Acknowledged: latency",
            "End to end: latency",
            "by percentile",
            "NOT_LEADER_OR_FOLLOWER",
            "p99.99",
            "bootstrap_server",
            "warm-up",
        ] {
            assert!(html.contains(part), "{part}");
        }
    }

    #[test]
    fn a_report_of_nothing_is_well_formed_too() {
        let mut empty = report();
        empty.measured.seconds.clear();
        empty.measured.total = Sample::default();
        empty.measured.elapsed = std::time::Duration::ZERO;
        for kind in [Kind::Produce, Kind::Consume, Kind::EndToEnd] {
            empty.kind = kind;
            check_well_formed(&render(&empty));
        }
    }
}
