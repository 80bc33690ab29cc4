//! All that is wrong with a config file, each with its place.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

/// Everything that is wrong with one file. As a [`miette::Diagnostic`] it shows each error with its line
/// and a caret; as text it is one `file:line:column: message: advice` per line.
pub struct ConfigErrors {
    source: NamedSource<Arc<str>>,
    text: Arc<str>,
    errors: Vec<ConfigError>,
}

/// One thing that is wrong. It never quotes a value that came from the environment or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The bytes of the file that it is about.
    pub span: Range<usize>,
    /// What is said beside the caret.
    pub label: &'static str,
    /// Another place that matters, such as the first of two.
    pub other: Option<(Range<usize>, &'static str)>,
}

impl ConfigError {
    /// An error about some bytes of the file.
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, span, label: "here", other: None }
    }

    /// With advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With a second place.
    #[must_use]
    pub(super) fn and(mut self, span: Range<usize>, label: &'static str) -> Self {
        self.other = Some((span, label));
        self
    }
}

impl ConfigErrors {
    /// Errors of the file `name` whose content is `text`, in the order of their places.
    #[must_use]
    pub(super) fn new(name: &str, text: Arc<str>, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| error.span.start);
        let source = NamedSource::new(name, Arc::clone(&text)).with_language("yaml");
        Self { source, text, errors }
    }

    /// The errors, in the order of their places.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// Line and column of a byte, both from 1.
    fn place(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        (line, before.get(line_start..).unwrap_or_default().chars().count() + 1)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errors.len() {
            1 => write!(f, "{} has an error", self.source.name()),
            count => write!(f, "{} has {count} errors", self.source.name()),
        }
    }
}

impl fmt::Debug for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        for error in &self.errors {
            let (line, column) = self.place(error.span.start);
            write!(f, "\n{}:{line}:{column}: {}", self.source.name(), error.message)?;
            if let Some(help) = &error.help {
                write!(f, ": {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Diagnostic for ConfigErrors {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.errors.iter().map(|error| error as &dyn Diagnostic)))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

impl Diagnostic for ConfigError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labelled = |span: &Range<usize>, label: &str| {
            LabeledSpan::at(span.start..span.end.max(span.start + 1), label)
        };
        let main = labelled(&self.span, self.label);
        let other = self.other.as_ref().map(|(span, label)| labelled(span, label));
        Some(Box::new(std::iter::once(main).chain(other)))
    }
}
