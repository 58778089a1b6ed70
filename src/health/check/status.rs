//! A set of status codes: `"200-299"`, `"200,204,301-308"`.

/// Status codes from 100 to 599 in ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StatusSet(Vec<(u16, u16)>);

impl StatusSet {
    /// Reads codes and ranges between commas.
    ///
    /// # Errors
    /// Names the part that is wrong and shows a form that works.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let code = |text: &str| {
            let code = text.trim().parse().ok().filter(|code| (100..=599).contains(code));
            code.ok_or_else(|| {
                format!(
                    "{text:?} is no status code from 100 to 599; \
                     write them like \"200-299\" or \"200,204,301-308\""
                )
            })
        };
        let range = |part: &str| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to) = (code(from)?, code(to)?);
            if from > to {
                return Err(format!("the range {part:?} is empty; write the smaller code first"));
            }
            Ok((from, to))
        };
        text.split(',').map(range).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_its_codes_and_ranges_and_nothing_else() {
        for (text, inside, outside) in [
            ("200", &[200][..], &[199, 201][..]),
            ("200-299", &[200, 250, 299], &[199, 300]),
            ("200-299,301", &[204, 301], &[300, 302]),
            (" 200 , 301 - 308 ", &[200, 301, 308], &[300, 309]),
        ] {
            let set = StatusSet::parse(text).unwrap();
            assert!(inside.iter().all(|code| set.contains(*code)), "{text}");
            assert!(!outside.iter().any(|code| set.contains(*code)), "{text}");
        }
    }

    #[test]
    fn what_is_no_set_is_refused_with_the_part_that_is_wrong() {
        for (text, want) in [
            ("2xx", "\"2xx\" is no status code from 100 to 599"),
            ("200,", "\"\" is no status code"),
            ("299-200", "the range \"299-200\" is empty"),
            ("200-700", "\"700\" is no status code"),
        ] {
            let error = StatusSet::parse(text).unwrap_err();
            assert!(error.starts_with(want), "{text}: {error}");
        }
    }
}
