//! Options of the form `--name value`; `--set key=value` may be given several times.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;

#[derive(Debug, Default)]
pub struct Arguments {
    values: BTreeMap<String, String>,
    settings: Vec<(String, String)>,
}

impl Arguments {
    pub fn parse(mut from: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self::default();
        while let Some(name) = from.next() {
            let name = name.strip_prefix("--").ok_or_else(|| format!("{name:?} is not an option"))?.to_owned();
            let value = from.next().ok_or_else(|| format!("--{name} needs a value"))?;
            if name == "set" {
                let (key, value) = value.split_once('=').ok_or_else(|| format!("--set {value:?} is not key=value"))?;
                parsed.settings.push((key.to_owned(), value.to_owned()));
            } else {
                parsed.values.insert(name, value);
            }
        }
        Ok(parsed)
    }

    pub fn text(&self, name: &str) -> Result<&str, String> {
        self.values.get(name).map(String::as_str).ok_or_else(|| format!("--{name} is missing"))
    }

    pub fn number(&self, name: &str) -> Result<u64, String> {
        let text = self.text(name)?;
        text.parse().map_err(|_| format!("--{name} {text:?} is not a number"))
    }

    pub fn number_or(&self, name: &str, default: u64) -> Result<u64, String> {
        if self.values.contains_key(name) { self.number(name) } else { Ok(default) }
    }

    /// A client's configuration: the brokers, and the settings that this kind of client knows.
    pub fn client(&self, consumer: bool) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.text("brokers")?);
        for (key, value) in &self.settings {
            match key.strip_prefix("consumer.") {
                Some(key) if consumer => config.set(key, value),
                None if !consumer => config.set(key, value),
                _ => &mut config,
            };
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_and_settings() {
        let parsed = parse("--brokers b:1 --size 100 --set linger.ms=0 --set consumer.fetch.wait.max.ms=5").unwrap();
        assert_eq!(parsed.number("size"), Ok(100));
        assert_eq!(parsed.number_or("rate", 7), Ok(7));
        assert_eq!(parsed.client(false).unwrap().get("linger.ms"), Some("0"));
        assert_eq!(parsed.client(false).unwrap().get("fetch.wait.max.ms"), None);
        assert_eq!(parsed.client(true).unwrap().get("fetch.wait.max.ms"), Some("5"));
        assert_eq!(parsed.client(true).unwrap().get("linger.ms"), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(parse("size").unwrap_err(), "\"size\" is not an option");
        assert_eq!(parse("--size").unwrap_err(), "--size needs a value");
        assert_eq!(parse("--set linger").unwrap_err(), "--set \"linger\" is not key=value");
        assert_eq!(parse("--size x").unwrap().number("size").unwrap_err(), "--size \"x\" is not a number");
    }
}
