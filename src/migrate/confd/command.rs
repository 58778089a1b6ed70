//! `check_cmd` and `reload_cmd`: templates of one line, over the names of two files. Pure.

use crate::render::engine::go::{Limits, Options, Templates, Value};

/// How our configuration names the staged file.
pub(super) const STAGED: &str = "{{.src}}";

/// What `command` says with our placeholder for the staged file, and `destination` for the other.
///
/// # Errors
/// It is no template, or one that needs more than these two.
pub(super) fn translated(command: &str, destination: &str) -> Result<String, String> {
    if !command.contains("{{") {
        return Ok(command.to_owned());
    }
    let data = [("src", STAGED), ("dest", destination)];
    let data = data.map(|(name, value)| (name.to_owned(), Value::from(value)));
    let templates = Templates::parse("command", command, &Options::default())
        .map_err(|error| error.to_string())?;
    let output = templates
        .execute(Value::dict(data.to_vec()), &(), Limits::default())
        .map_err(|error| error.to_string())?;
    String::from_utf8(output).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_go_template_over_the_two_files_becomes_a_command() {
        for (command, want) in [
            ("nginx -t", "nginx -t"),
            ("nginx -t -c {{.src}}", "nginx -t -c {{.src}}"),
            ("check {{ .src }} {{- \" x\" }}", "check {{.src}} x"),
            ("cmp {{.src}} {{.dest}}", "cmp {{.src}} /d"),
            ("{{if .src}}check {{.src}}{{end}}", "check {{.src}}"),
            ("awk '{print $1}' ${HOME}", "awk '{print $1}' ${HOME}"),
        ] {
            assert_eq!(translated(command, "/d").as_deref(), Ok(want), "{command}");
        }
        for command in ["check {{.src", "{{nothing}}"] {
            assert!(translated(command, "/d").is_err(), "{command}");
        }
    }
}
