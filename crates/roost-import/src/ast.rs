//! A script as it is written: what each part means is for others.

/// Where something stands: the number of its file, and its line from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Place {
    pub file: usize,
    pub line: usize,
}

/// The lines of something, the last one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) at: Place,
    pub(crate) end: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// `log_level=3`, `listen=udp:10.0.0.1:5060`.
    Global {
        name: String,
        value: String,
        span: Span,
    },
    Module {
        name: String,
        span: Span,
    },
    /// `modparam("auth", "nonce_expire", 30)`.
    Param {
        module: String,
        name: String,
        value: String,
        span: Span,
    },
    Include {
        file: String,
        /// `import_file`: it need not be there.
        is_optional: bool,
        span: Span,
    },
    Route {
        kind: String,
        name: String,
        body: Vec<Statement>,
        span: Span,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statement {
    pub(crate) what: What,
    pub(crate) span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    If {
        condition: Expr,
        then: Vec<Statement>,
        other: Vec<Statement>,
    },
    /// `while`, and `for` over a list.
    Loop {
        condition: Option<Expr>,
        body: Vec<Statement>,
    },
    Switch {
        on: Expr,
        arms: Vec<(Option<Expr>, Vec<Statement>)>,
    },
    Assign {
        to: String,
        op: String,
        value: Expr,
    },
    Call(Call),
    Block(Vec<Statement>),
    Exit,
    Drop,
    Break,
    Return(Option<Expr>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) args: Vec<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    /// `$rU`, `$(ru{uri.user})`, with the dollar sign.
    Var(String),
    Text(String),
    Number(i64),
    /// `NULL`, `INVITE`, `myself`, an address.
    Word(String),
    Call(Call),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Two(Op, Box<Expr>, Box<Expr>),
    /// An argument that is left out.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Or,
    And,
    Equal,
    Unequal,
    Matches,
    Differs,
    Above,
    AtLeast,
    Below,
    AtMost,
    /// Arithmetics, which nothing is concluded from.
    Other,
    /// Texts put together, or a sum.
    Plus,
}

impl Expr {
    pub(crate) fn is_and_or(&self) -> bool {
        matches!(self, Expr::Two(Op::And | Op::Or, ..))
    }

    /// A text, a word or a number as text.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Expr::Text(text) | Expr::Word(text) => Some(text.clone()),
            Expr::Number(number) => Some(number.to_string()),
            Expr::Negative(of) => of.text().map(|text| format!("-{text}")),
            _ => None,
        }
    }
}

impl Call {
    /// An argument as text; empty where there is none.
    pub(crate) fn arg(&self, at: usize) -> String {
        self.args.get(at).and_then(Expr::text).unwrap_or_default()
    }
}
