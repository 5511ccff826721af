//! Points in time and durations, as people write them.

use std::time::Duration;

const MILLIS_PER_DAY: i64 = 86_400_000;

/// Milliseconds since 1970 as `2026-01-31T12:00:00.000Z`; what is no such time as the number.
pub fn format_timestamp(millis: i64) -> String {
    // Years 0000 to 9999.
    if !(-62_167_219_200_000..253_402_300_800_000).contains(&millis) {
        return millis.to_string();
    }
    let (day, rest) = (millis.div_euclid(MILLIS_PER_DAY), millis.rem_euclid(MILLIS_PER_DAY));
    let (year, month, day) = date_of_day(day);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1000)
}

/// Reads milliseconds since 1970, `2026-01-31`, or `2026-01-31T12:00:00[.000][Z]`; all in UTC.
pub fn parse_timestamp(text: &str) -> Result<i64, String> {
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(millis);
    }
    date_and_time(text).ok_or_else(|| {
        format!("'{text}' is neither milliseconds since 1970 nor a UTC time such as 2026-01-31T12:00:00Z")
    })
}

fn date_and_time(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let [year, month, day] = numbers(date, '-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':')?;
    let days_of_month = [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month_length = *days_of_month.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    let proper = (0..=9999).contains(&year)
        && (1..=month_length).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second)
        && (1..=9).contains(&fraction.len())
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok().filter(|_| proper)?;
    Some(day_of_date(year, month, day) * MILLIS_PER_DAY + ((hour * 60 + minute) * 60 + second) * 1000 + millis)
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
    let parts: Vec<i64> = text.split(separator).map(digits).collect::<Option<_>>()?;
    parts.try_into().ok()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days since 1970-01-01. Years are counted from March, so that the leap day is the last one.
fn day_of_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn date_of_day(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, day_of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * month_from_march + 2) / 5 + 1)
}

/// A length of time as people say it, in its two largest units: `3d 4h`, `5m 20s`, `1.5s`, `20ms`.
pub fn format_span(millis: i64) -> String {
    let (seconds, millis) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (1.., ..) => format!("{days}d {hours}h"),
        (_, 1.., _) => format!("{hours}h {minutes}m"),
        (_, _, 1..) => format!("{minutes}m {}s", seconds % 60),
        _ if seconds > 0 => format!("{seconds}.{}s", millis / 100),
        _ => format!("{millis}ms"),
    }
}

/// Reads how long ago something was: `90s`, `2h`, `1d`, `1d12h`, or Kafka's `P1DT12H`; in milliseconds.
pub fn parse_span(text: &str) -> Result<i64, String> {
    // ISO 8601 says months with the same letter as minutes, before the T; Kafka does not take them either.
    let iso = text.strip_prefix(['P', 'p']);
    let plain = iso.map_or_else(|| text.to_owned(), |iso| iso.replace(['T', 't'], ""));
    span(&plain.to_ascii_lowercase())
        .ok_or_else(|| format!("'{text}' is not a length of time such as 30m, 2h, 1d12h or PT2H"))
}

fn span(text: &str) -> Option<i64> {
    let (mut rest, mut total) = (text, 0_i64);
    loop {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).filter(|&digits| digits > 0)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let millis_per_unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => MILLIS_PER_DAY,
            "w" => 7 * MILLIS_PER_DAY,
            _ => return None,
        };
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(millis_per_unit)?)?;
        if tail.is_empty() {
            return Some(total);
        }
        rest = tail;
    }
}

/// Reads `500ms`, `10s`, `2m`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis_per_unit = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    // A day is longer than anybody waits, and short enough for every sum of timeouts.
    let millis = number.parse::<u64>().ok().zip(millis_per_unit).and_then(|(number, per)| number.checked_mul(per));
    millis
        .filter(|millis| (1..=86_400_000).contains(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("'{text}' is not a duration such as 500ms, 10s or 2m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_round_trip() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format_timestamp(millis), text);
            assert_eq!(parse_timestamp(text), Ok(millis), "{text}");
        }
        assert_eq!(format_timestamp(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn timestamps_of_people() {
        for (text, expected) in [
            ("1700000000000", Some(1_700_000_000_000)),
            ("-1", Some(-1)),
            ("2026-01-01", Some(1_767_225_600_000)),
            ("2026-01-01T00:00:01", Some(1_767_225_601_000)),
            ("2026-01-01 00:00:01.5Z", Some(1_767_225_601_500)),
            ("2025-02-29", None),
            ("2025-13-01", None),
            ("2025-00-01", None),
            ("2025-01-01T24:00:00", None),
            ("2025-01-01T00:00:00.", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_timestamp(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn spans() {
        for (text, millis) in [
            ("500ms", Some(500)),
            ("90s", Some(90_000)),
            ("2h", Some(7_200_000)),
            ("1d12h", Some(129_600_000)),
            ("1w", Some(604_800_000)),
            ("PT2H30M", Some(9_000_000)),
            ("P1DT12H", Some(129_600_000)),
            ("p1d", Some(86_400_000)),
            ("0s", Some(0)),
            ("10", None),
            ("h", None),
            ("-1h", None),
            ("1y", None),
            ("", None),
            ("P", None),
            ("9223372036854775807d", None),
            ("9223372036854775807ms1ms", None),
        ] {
            assert_eq!(parse_span(text).ok(), millis, "{text}");
        }
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1500, "1.5s"),
            (59_999, "59.9s"),
            (60_000, "1m 0s"),
            (3_599_999, "59m 59s"),
            (3_600_000, "1h 0m"),
            (90_000_000, "1d 1h"),
            (i64::MAX, "106751991167d 7h"),
        ] {
            assert_eq!(format_span(millis), text);
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("10", Some(10_000)),
            ("2m", Some(120_000)),
            ("0s", None),
            ("2h", None),
            ("-1s", None),
            ("ms", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text).ok(), millis.map(Duration::from_millis), "{text}");
        }
    }
}
