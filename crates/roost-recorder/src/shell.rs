//! Texts as parts of commands that people paste into a shell.

use std::borrow::Cow;

/// A text as a word of a command: who chose it may be a stranger.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:+%=,/".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', r"'\''")).into(),
    }
}

/// The same as what a command is about: never one of its options.
pub fn argument(text: &str) -> Cow<'_, str> {
    match text.starts_with('-') {
        true => format!("-- {}", shell_word(text)).into(),
        false => shell_word(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_has_chosen_is_one_word_of_a_shell_and_no_option() {
        assert_eq!(shell_word("a84b4c76e66710@10.0.0.1"), "a84b4c76e66710@10.0.0.1");
        assert_eq!(shell_word("x; rm -rf $HOME"), "'x; rm -rf $HOME'");
        assert_eq!((&*shell_word("it's"), &*shell_word("")), (r"'it'\''s'", "''"));
        assert_eq!((&*argument("--all"), &*argument("-`x`")), ("-- --all", "-- '-`x`'"));
        assert_eq!(argument("9001@pbx.test"), "9001@pbx.test");
    }
}
