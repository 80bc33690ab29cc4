//! The one expression language: minijinja, with its bounds set here.

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use minijinja::{Environment, Error, Expression, UndefinedBehavior, Value};

/// The longest expression. A longer one is a program, and wants `transform:`.
const MAX_EXPRESSION_BYTES: usize = 4 * 1024;

/// How much one evaluation may do: about as many instructions, or 64 times as many bytes of values. It
/// bounds time without a clock. An expression that reaches it fails on this event, and the event is rejected.
const FUEL: u64 = 50_000;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

/// The language as everybody has it.
pub(crate) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // `properties.plan.name` of an event without `plan` is undefined too, and not an error.
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    environment
}

/// An expression that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ExpressionError {
    /// What is wrong.
    pub problem: String,
    /// Byte offset in the expression where it was noticed, where that is known.
    pub at: Option<usize>,
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{} at character {}", self.problem, at + 1),
            None => f.write_str(&self.problem),
        }
    }
}

/// A compiled expression.
pub(crate) struct Compiled(Expression<'static, 'static>);

impl Compiled {
    pub(crate) fn new(source: &str) -> Result<Self, ExpressionError> {
        Self::within(&ENVIRONMENT, source)
    }

    /// With the functions of an environment.
    pub(crate) fn within(
        environment: &'static Environment<'static>,
        source: &str,
    ) -> Result<Self, ExpressionError> {
        if source.trim().is_empty() {
            return Err(ExpressionError { problem: "the expression is empty".to_owned(), at: None });
        }
        if source.len() > MAX_EXPRESSION_BYTES {
            let problem = format!("the expression is longer than {MAX_EXPRESSION_BYTES} bytes");
            return Err(ExpressionError { problem, at: None });
        }
        let compiled = environment.compile_expression_owned(source.to_owned());
        compiled.map(Self).map_err(|error| ExpressionError {
            problem: error.detail().unwrap_or("it is not an expression").to_owned(),
            at: error.range().map(|range| range.start),
        })
    }

    /// The top-level names that it reads.
    pub(crate) fn names(&self) -> HashSet<String> {
        self.0.undeclared_variables(false)
    }

    /// The names that it reads, with those within them where they are written out: `traits.email`.
    pub(crate) fn paths(&self) -> HashSet<String> {
        self.0.undeclared_variables(true)
    }

    pub(crate) fn evaluate(&self, context: Value) -> Result<Value, Error> {
        self.0.eval(context)
    }
}
