//! The words of the pages in each language: one JSON object of names and texts for each.

use std::collections::HashMap;

use roost_recorder::Language;

const ENGLISH: &str = include_str!("../words/en.json");
const CHINESE: &str = include_str!("../words/zh.json");

#[derive(Debug)]
pub(crate) struct Words {
    english: HashMap<String, String>,
    chinese: HashMap<String, String>,
}

impl Words {
    /// # Errors
    /// A file is no such object.
    pub(crate) fn new() -> Result<Words, String> {
        let read = |text: &str| serde_json::from_str(text).map_err(|error| format!("words: {error}"));
        Ok(Words { english: read(ENGLISH)?, chinese: read(CHINESE)? })
    }

    /// A text; the name itself where there is none.
    pub(crate) fn get<'w>(&'w self, language: Language, name: &'w str) -> &'w str {
        let words = match language {
            Language::English => &self.english,
            Language::Chinese => &self.chinese,
        };
        words.get(name).map_or(name, String::as_str)
    }

    /// A text with what stands in it in place of `{0}`, `{1}`.
    pub(crate) fn filled(&self, language: Language, name: &str, parts: &[String]) -> String {
        parts.iter().enumerate().fold(self.get(language, name).to_string(), |text, (index, part)| {
            text.replace(&format!("{{{index}}}"), part)
        })
    }

    /// All whose names begin so, without that beginning, as JSON.
    pub(crate) fn below(&self, language: Language, front: &str) -> String {
        let words = match language {
            Language::English => &self.english,
            Language::Chinese => &self.chinese,
        };
        let own: HashMap<&str, &String> =
            words.iter().filter_map(|(name, text)| Some((name.strip_prefix(front)?, text))).collect();
        serde_json::to_string(&own).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_have_the_same_words_and_templates_name_no_other() {
        let words = Words::new().unwrap();
        for name in words.english.keys() {
            assert!(words.chinese.contains_key(name), "no Chinese for {name}");
        }
        for name in words.chinese.keys() {
            assert!(words.english.contains_key(name), "no English for {name}");
        }
        for (template, text) in crate::templates::ALL {
            // Not the end of another function's name.
            let text = text.replace("split(\"", "").replace("list(\"", "");
            for part in text.split("t(\"").skip(1) {
                let name = part.split('"').next().unwrap_or_default();
                // What ends in a dot is put together with a value.
                let is_known = match name.ends_with('.') {
                    true => words.english.keys().any(|known| known.starts_with(name)),
                    false => words.english.contains_key(name),
                };
                assert!(is_known, "{template}: no words for {name}");
            }
        }
    }
}
