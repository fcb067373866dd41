//! The reasons: a number, a word, and what they mean, for every refusal, drop, failed call and lost binding.

mod table;

pub use table::{Explanation, REASONS};

use serde_json::{Value, json};

use crate::shell::argument;

/// A language of the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Chinese,
}

impl Language {
    /// By a tag (`zh`, `zh-CN`) or a locale (`zh_CN.UTF-8`); English where it is neither.
    pub fn of(tag: &str) -> Language {
        Language::wanted(tag).unwrap_or(Language::English)
    }

    /// By a tag, a locale, or the first language that a browser wants (`zh-CN,zh;q=0.9`).
    pub fn wanted(text: &str) -> Option<Language> {
        let first = text.split([',', ';']).next().unwrap_or_default().trim();
        match first.split(['-', '_', '.']).next() {
            Some("zh") => Some(Language::Chinese),
            Some("en") => Some(Language::English),
            _ => None,
        }
    }

    /// The one of the two, English and Chinese, that is its own.
    pub fn pick<Text>(self, [english, chinese]: [Text; 2]) -> Text {
        match self {
            Language::English => english,
            Language::Chinese => chinese,
        }
    }

    /// Its tag (RFC 5646).
    pub fn tag(self) -> &'static str {
        self.pick(["en", "zh-CN"])
    }
}

impl Explanation {
    /// Its code: `R204`.
    pub fn code(&self) -> String {
        format!("R{}", self.number)
    }

    /// The entry of a code (`R204`, `204`) or a word (`wrong-password`).
    pub fn of(name: &str) -> Option<&'static Explanation> {
        let digits = name.strip_prefix(['R', 'r']).unwrap_or(name);
        match digits.parse::<u16>() {
            Ok(number) => REASONS.iter().find(|entry| entry.number == number),
            Err(_) => REASONS.iter().find(|entry| entry.word.eq_ignore_ascii_case(name)),
        }
    }

    /// What happened, what to do, and what it may mean besides, which may be empty; of these names.
    pub fn texts(&self, language: Language, names: &Names<'_>) -> [String; 3] {
        let own = |texts: [&'static str; 2]| language.pick(texts);
        let [what, remedy, besides] = [self.what, self.remedy, self.besides].map(own);
        // What is to be done has commands in it.
        let words = [names.extension, names.callee, names.address].map(argument);
        let quoted = Names { extension: &words[0], callee: &words[1], address: &words[2] };
        [names.put_into(what), quoted.put_into(remedy), quoted.put_into(besides)]
    }
}

impl Explanation {
    /// `code`, `word`, `answer`, `what`, `do` and `besides`, about nobody.
    pub fn to_json(&self, language: Language) -> Value {
        let [what, remedy, besides] = self.texts(language, &Names::EXAMPLE);
        let (code, answer) = (self.code(), answer_of(self.word));
        json!({ "code": code, "word": self.word, "answer": answer, "what": what, "do": remedy, "besides": besides })
    }
}

/// Whom a text is about.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The extension that is refused, or that calls.
    pub extension: &'a str,
    pub callee: &'a str,
    /// The IP address that it comes from.
    pub address: &'a str,
}

impl Names<'static> {
    /// Those of a text that is about nobody.
    pub const EXAMPLE: Names<'static> = Names { extension: "9001", callee: "9002", address: "10.0.0.7" };
}

impl Names<'_> {
    /// In one pass: braces in a name are its own.
    fn put_into(&self, text: &str) -> String {
        let mut put = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            put.push_str(before);
            let found = after.split_once('}').and_then(|(name, next)| match name {
                "extension" => Some((self.extension, next)),
                "callee" => Some((self.callee, next)),
                "address" => Some((self.address, next)),
                _ => None,
            });
            let (own, next) = found.unwrap_or(("{", after));
            put.push_str(own);
            rest = next;
        }
        put + rest
    }
}

/// `docs/reasons.md`, or the same in Chinese.
pub fn page(language: Language) -> String {
    let (head, titles, headings) = match language {
        Language::English => (
            "# Reasons\n\n[中文](reasons.zh-CN.md) · [README](../README.md)\n\nEvery refusal, drop, failed call and lost binding has a number that never \
             changes its meaning, and a word that logs,\nmetrics and `roost why` carry. `roost explain R204` or `roost explain wrong-password` prints one.\n\n\
             This page is made by `cargo run -q -- config reasons en > docs/reasons.md`; a test compares the two.\n",
            [
                "The message itself",
                "What it asks for",
                "Who asks",
                "Limits",
                "Registrations",
                "Calls",
                "Dropped without an answer",
                "Failed calls",
                "Lost bindings",
                "Verdicts",
            ],
            "| code | word | SIP | what happened | what to do | what it may mean besides |\n|---|---|---|---|---|---|\n",
        ),
        Language::Chinese => (
            "# 原因\n\n[English](reasons.md) · [README](../README.zh-CN.md)\n\n每一种拒绝、丢弃、失败的呼叫和失去的注册都有一个含义不变的编号，以及一个出现在日志、指标和 `roost why` 中的词。\n\
             `roost explain R204` 或 `roost explain wrong-password` 显示其中一条。\n\n\
             本页由 `cargo run -q -- config reasons zh > docs/reasons.zh-CN.md` 生成，测试会比较两者。\n",
            [
                "消息本身",
                "请求的内容",
                "请求者",
                "限制",
                "注册",
                "呼叫",
                "不应答而丢弃",
                "失败的呼叫",
                "失去的注册",
                "判断",
            ],
            "| 编号 | 词 | SIP | 发生了什么 | 如何处理 | 还可能意味着 |\n|---|---|---|---|---|---|\n",
        ),
    };
    let mut page = head.to_string();
    let starts = [101, 151, 201, 301, 401, 501, 601, 701, 801, 901];
    let ends = starts.iter().skip(1).copied().chain([1_000]);
    for ((start, end), title) in starts.iter().zip(ends).zip(titles) {
        page.push_str(&format!("\n## {title}\n\n{headings}"));
        for entry in REASONS.iter().filter(|entry| (*start..end).contains(&entry.number)) {
            let [what, remedy, besides] = entry.texts(language, &Names::EXAMPLE);
            let sip = answer_of(entry.word);
            page.push_str(&format!(
                "| {} | `{}` | {sip} | {what} | {remedy} | {besides} |\n",
                entry.code(),
                entry.word
            ));
        }
    }
    page
}

/// The status code and phrase that its request is answered with, where there is one.
pub fn answer_of(word: &str) -> String {
    let reason = roost_core::Reason::ALL.iter().find(|reason| reason.word() == word);
    reason.map_or(String::new(), |reason| format!("{} {}", reason.code(), reason.phrase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_core_has_its_entry_and_no_number_or_word_is_there_twice() {
        for reason in roost_core::Reason::ALL {
            let entry = Explanation::of(&reason.word());
            assert!(entry.is_some(), "{} has no entry in reasons/table.rs", reason.word());
        }
        let outcome = |end, has_rung| crate::CallOutcome { end, has_rung, rang_s: 0, talked_s: 0 };
        let ends = (300..700).map(roost_core::CallEnd::Failed).chain([
            roost_core::CallEnd::Operator,
            roost_core::CallEnd::CallerGone,
            roost_core::CallEnd::CalleeGone,
            roost_core::CallEnd::Timeout,
        ]);
        let ends =
            ends.flat_map(|end| [true, false].map(|has_rung| crate::call_word(&outcome(end, has_rung))));
        let drops = roost_core::Dropped::ALL.map(roost_core::Dropped::word);
        let losses = roost_core::Gone::ALL.map(roost_core::Gone::word);
        for word in ends.flatten().chain(drops).chain(losses).chain(["flow-lost", "pings-lost", "not-stored"])
        {
            assert!(Explanation::of(word).is_some(), "{word} has no entry in reasons/table.rs");
        }
        for (at, entry) in REASONS.iter().enumerate() {
            let others = REASONS.get(at + 1..).unwrap_or(&[]);
            assert!(others.iter().all(|other| other.number > entry.number), "{}", entry.code());
            assert!(others.iter().all(|other| other.word != entry.word), "{} is there twice", entry.word);
            for language in [Language::English, Language::Chinese] {
                let [what, remedy, _] = entry.texts(language, &Names::EXAMPLE);
                assert!(!what.is_empty() && !remedy.is_empty(), "{}", entry.code());
            }
        }
        // Numbers that were given once.
        for (code, word) in [
            ("R101", "version"),
            ("r204", "nonce-expired"),
            ("209", "incomplete-credentials"),
            ("R701", "no-response"),
            ("R901", "never-seen"),
        ] {
            assert_eq!(Explanation::of(code).map(|entry| entry.word), Some(word), "{code}");
        }
        assert!(Explanation::of("R1").is_none() && Explanation::of("nothing").is_none());
    }
}
