//! Whether an output is what it is meant to be: JSON, YAML, TOML or XML.

use serde::de::IgnoredAny;

use super::writing::OutputFormat;

/// Parses `bytes` as `format` and drops the result.
///
/// # Errors
/// What is wrong, with its place as far as the parser tells one.
pub(super) fn validate(format: OutputFormat, bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes);
    let text = text.map_err(|error| format!("the output is not UTF-8: {error}"))?;
    match format {
        OutputFormat::Json => serde_json::from_str::<IgnoredAny>(text)
            .map(drop)
            .map_err(|error| format!("the output is no JSON: {error}")),
        OutputFormat::Yaml => serde_saphyr::from_multiple::<IgnoredAny>(text)
            .map(drop)
            .map_err(|error| format!("the output is no YAML: {error}")),
        OutputFormat::Toml => toml::from_str::<toml::Table>(text)
            .map(drop)
            .map_err(|error| format!("the output is no TOML: {error}")),
        OutputFormat::Xml => {
            xml(text).map_err(|error| format!("the output is no well-formed XML: {error}"))
        }
    }
}

/// Nothing is fetched and no entity beyond XML's own is replaced: a document type is refused.
fn xml(text: &str) -> Result<(), String> {
    let options = roxmltree::ParsingOptions { allow_dtd: false, ..Default::default() };
    match roxmltree::Document::parse_with_options(text, options) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_takes_what_is_well_formed_and_nothing_else() {
        for (format, text, fine) in [
            (OutputFormat::Json, "{\"a\": [1, null]}\n", true),
            (OutputFormat::Json, "[1,]", false),
            (OutputFormat::Json, "{} {}", false),
            (OutputFormat::Json, "", false),
            (OutputFormat::Yaml, "a: [1, 2]\nb:\n  - c\n", true),
            (OutputFormat::Yaml, "a: 1\n---\nb: 2\n", true),
            (OutputFormat::Yaml, "a: [1, 2\n", false),
            (OutputFormat::Toml, "a = 1\n[b]\n", true),
            (OutputFormat::Toml, "a = 1\na = 2\n", false),
            (OutputFormat::Xml, "<?xml version=\"1.0\"?><a b=\"c\"><d/>e</a>", true),
            (OutputFormat::Xml, "<a><b></a>", false),
            (OutputFormat::Xml, "", false),
        ] {
            let result = validate(format, text.as_bytes());
            assert_eq!(result.is_ok(), fine, "{format:?} {text:?}: {result:?}");
        }
        let error = validate(OutputFormat::Json, b"{\n  \"a\": }").unwrap_err();
        assert!(
            error.starts_with("the output is no JSON: ") && error.contains("line 2"),
            "{error}"
        );
        assert!(validate(OutputFormat::Json, b"\"\xff\"").unwrap_err().contains("UTF-8"));
    }
}
