//! A configuration file to begin with: every setting, explained and commented out.

use clap::CommandFactory as _;

use super::settings::Settings;

const HEADING: &str = "\
Settings of pilot-agent. Each is the flag of the same name, see pilot-agent(1). What stands behind a # is an example or
the default; without it, it counts. Flags and variables PILOT_... of the environment win over this file.

Name the directory first (registry), then: pilot-agent config check --config THIS-FILE";

/// Where the default cannot be written down.
const EXAMPLES: [(&str, &str); 10] = [
    ("registry", "\"relay.example.org:9000\""),
    ("registry-fingerprint", "\"0000000000000000000000000000000000000000000000000000000000000000\""),
    ("listen", "\"[::]:0\""),
    ("socket", "\"/run/pilot-agent/pilot.sock\""),
    ("hostname", "\"alpha\""),
    ("owner", "\"somebody@example.org\""),
    ("endpoint", "\"203.0.113.5:4000\""),
    ("log-level", "\"info\""),
    ("trace-sample", "\"1\""),
    ("http", "\"127.0.0.1:9102\""),
];

/// The file.
#[must_use]
pub fn default_file() -> String {
    flags::default_file::default_file(&Settings::command(), HEADING, &EXAMPLES)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn it_has_every_flag_and_each_line_is_accepted() {
        let text = default_file();
        let command = Settings::command();
        let shown = command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(clap::Arg::get_long);
        for key in shown.filter(|key| !["config", "help", "version"].contains(key)) {
            assert!(text.contains(&format!("\n#{key} = ")), "{key} is missing in\n{text}");
        }
        assert_eq!(toml::from_str::<Settings>(&text).unwrap(), Settings::default());
        for line in flags::default_file::settings_in(&text) {
            let mut settings: Settings = toml::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_ne!(settings, Settings::default(), "{line}");
            // There is no such file here.
            settings.capability_file = None;
            Config::from_settings(settings, Some("/home/somebody".into()))
                .unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}
