//! Where spans go and whom they are from, given by flags or by the standard environment variables.

use std::fmt;
use std::time::Duration;

/// Path of a collector that takes spans, behind its base URL.
const TRACES_PATH: &str = "v1/traces";

/// How spans leave a process.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// Where spans are posted to, as `http://127.0.0.1:4318/v1/traces`.
    pub traces_url: String,
    /// The program, as `pilot-relay`.
    pub service_name: String,
    /// Its version.
    pub service_version: String,
    /// Which of several such programs, as a host name or an address; empty for none.
    pub instance_id: String,
    /// What else is true of all spans.
    pub attributes: Vec<(String, String)>,
    /// Spans that may wait; one more is lost.
    pub queue_max: usize,
    /// How long a span may wait for others to travel with.
    pub batch_delay: Duration,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown_here = f.debug_struct("Options");
        shown_here.field("traces_url", &shown(&self.traces_url)).field("service_name", &self.service_name);
        shown_here.field("instance_id", &self.instance_id).finish_non_exhaustive()
    }
}

impl Options {
    /// Spans of `service_name` for the collector at `endpoint`, a base URL such as `http://127.0.0.1:4318`.
    #[must_use]
    pub fn new(endpoint: &str, service_name: &str, service_version: &str) -> Self {
        Self {
            traces_url: format!("{}/{TRACES_PATH}", endpoint.trim().trim_end_matches('/')),
            service_name: service_name.to_owned(),
            service_version: service_version.to_owned(),
            instance_id: String::new(),
            attributes: Vec::new(),
            queue_max: 2048,
            batch_delay: Duration::from_secs(1),
        }
    }

    /// The TCP port of the collector; `None` for a URL that is none.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        let (scheme, rest) = self.traces_url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        // The colons of an IPv6 address lie within brackets.
        match host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((_, port)) => port.parse().ok(),
            None => Some(if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 }),
        }
    }

    /// What `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` (a whole URL) or `OTEL_EXPORTER_OTLP_ENDPOINT` (a base URL),
    /// `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_BSP_SCHEDULE_DELAY` (milliseconds) say. `None` where
    /// no endpoint is set, or `OTEL_SDK_DISABLED` is `true`, or `OTEL_TRACES_EXPORTER` is `none`.
    #[must_use]
    pub fn from_environment(service_name: &str, service_version: &str) -> Option<Self> {
        Self::from_variables(|name| std::env::var(name).ok(), service_name, service_version)
    }

    /// [`Self::from_environment`] with variables from elsewhere.
    #[must_use]
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        service_name: &str,
        service_version: &str,
    ) -> Option<Self> {
        // The specification has an empty variable mean an absent one.
        let set = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let is = |name: &str, wanted: &str| set(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted));
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return None;
        }
        let traces_url = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let endpoint = set("OTEL_EXPORTER_OTLP_ENDPOINT");
        let mut options = Self::new(endpoint.as_deref().or(traces_url.as_deref())?, service_name, service_version);
        options.traces_url = traces_url.unwrap_or(options.traces_url);
        options.take_resource(&set("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
        if let Some(name) = set("OTEL_SERVICE_NAME") {
            options.service_name = name;
        }
        if let Some(delay_ms) = set("OTEL_BSP_SCHEDULE_DELAY").and_then(|text| text.parse().ok()) {
            options.batch_delay = Duration::from_millis(delay_ms);
        }
        Some(options)
    }

    /// Reads `key=value,key=value`, values percent-encoded. What is no pair is passed over.
    fn take_resource(&mut self, text: &str) {
        for (key, value) in text.split(',').filter_map(|pair| pair.split_once('=')) {
            let value = percent_decoded(value.trim());
            match key.trim() {
                "" => {}
                "service.name" => self.service_name = value,
                "service.version" => self.service_version = value,
                "service.instance.id" => self.instance_id = value,
                key => self.attributes.push((key.to_owned(), value)),
            }
        }
    }
}

/// `url` without the password it may hold, for people to read.
#[must_use]
pub fn shown(url: &str) -> String {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let end = url[begin..].find(['/', '?', '#']).map_or(url.len(), |at| begin + at);
    match url[begin..end].rfind('@') {
        Some(at) => format!("{}***{}", &url[..begin], &url[begin + at..]),
        None => url.to_owned(),
    }
}

/// `text` with `%41` for `A` undone; what is no such thing stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let value = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> Option<Options> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Options::from_variables(find, "pilot-relay", "1.2.3")
    }

    #[test]
    fn without_an_endpoint_there_is_no_export() {
        assert_eq!(options(&[("OTEL_SERVICE_NAME", "x")]), None);
        assert_eq!(options(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), None);
        let on = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        assert_eq!(options(&[on, ("OTEL_SDK_DISABLED", "True")]), None);
        assert_eq!(options(&[on, ("OTEL_TRACES_EXPORTER", "none")]), None);
    }

    #[test]
    fn a_base_gets_the_path_and_a_whole_url_stays() {
        let base = options(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/otlp/")]).unwrap();
        assert_eq!(base.traces_url, "http://c:4318/otlp/v1/traces");
        let both = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://d/x")];
        assert_eq!(options(&both).unwrap().traces_url, "http://d/x");
        assert_eq!(options(&both[1..]).unwrap().traces_url, "http://d/x");
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        for (url, wanted) in [
            ("http://c:4318/v1", "http://c:4318/v1"),
            ("http://u:p@w@c:4318/v1?x=a@b", "http://***@c:4318/v1?x=a@b"),
            ("u:p@c", "***@c"),
            ("http://[::1]:4318", "http://[::1]:4318"),
            ("", ""),
        ] {
            assert_eq!(shown(url), wanted);
        }
        let secret = Options::new("http://user:hunter2@c", "a", "1");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(secret.traces_url.contains("hunter2"), "it is used");
    }

    #[test]
    fn the_port_is_found() {
        for (url, port) in [
            ("http://c:4318", Some(4318)),
            ("http://[::1]:9", Some(9)),
            ("http://[::1]", Some(80)),
            ("https://u:1@c", Some(443)),
            ("http://c:x", None),
            ("c", None),
        ] {
            assert_eq!(Options::new(url, "a", "1").port(), port, "{url}");
        }
    }

    #[test]
    fn the_resource_is_read_and_the_service_name_variable_wins() {
        let resource = "service.name=from-resource,service.instance.id=a%2Cb, zone = eu%,nothing,=empty";
        let on = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        let given = options(&[on, ("OTEL_RESOURCE_ATTRIBUTES", resource)]).unwrap();
        assert_eq!((given.service_name.as_str(), given.instance_id.as_str()), ("from-resource", "a,b"));
        assert_eq!(given.service_version, "1.2.3");
        assert_eq!(given.attributes, [("zone".to_owned(), "eu%".to_owned())]);
        let named = [on, ("OTEL_RESOURCE_ATTRIBUTES", resource), ("OTEL_SERVICE_NAME", "mine")];
        assert_eq!(options(&named).unwrap().service_name, "mine");
    }
}
