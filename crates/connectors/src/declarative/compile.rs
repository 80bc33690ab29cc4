//! A file becomes what instances are made of. All that can be found wrong without settings is found here.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};

use millrace_service::config::{ConfigError, ConfigErrors, Document, Step};
use millrace_transform::{Expression, ExpressionError, Language, Template};

use super::fields::CompiledField;
use super::functions::FUNCTIONS;
use super::spec::{Action, Auth, ChangeMode, Field, Format, OnNull, Spec};

/// The expression language of the files.
pub(crate) static LANGUAGE: LazyLock<Language> = LazyLock::new(|| {
    let functions: Vec<_> = FUNCTIONS.iter().map(|(name, function, _)| (*name, *function)).collect();
    Language::with(&functions)
});

/// The body that is the item itself.
const WHOLE_ITEM: &str = "item";

/// The YAML of a destination, read and found right.
pub struct Compiled {
    /// As it was written.
    pub spec: Spec,
    /// Where it came from, for people.
    pub name: String,
    pub(super) base_url: Template,
    pub(super) headers: Vec<(String, Template)>,
    pub(super) actions: Vec<CompiledAction>,
    pub(super) rudder: Vec<(String, CompiledField)>,
    pub(super) ok: Option<Arc<Expression>>,
    pub(super) classes: Vec<Arc<Expression>>,
    pub(super) errors: Vec<Option<Arc<Expression>>>,
}

/// An [`Action`] whose texts have been compiled.
pub(super) struct CompiledAction {
    pub(super) name: String,
    pub(super) when: Option<Expression>,
    /// Whom it rejects, and why.
    pub(super) reject: Vec<(Expression, String)>,
    pub(super) upserts: bool,
    pub(super) deletes: bool,
    pub(super) method: String,
    pub(super) path: Template,
    pub(super) headers: Vec<(String, Template)>,
    pub(super) query: Vec<(String, Template)>,
    pub(super) format: Format,
    pub(super) body: Option<Expression>,
    /// The body is the item as it is: nothing has to be evaluated.
    pub(super) whole: bool,
    pub(super) array: Option<String>,
    pub(super) with: Vec<(String, Expression)>,
    pub(super) map: Vec<(Vec<String>, CompiledField)>,
    pub(super) on_null: OnNull,
}

impl Compiled {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// All that is wrong with it, each with its line.
    pub fn read(name: &str, text: &str) -> Result<Self, ConfigErrors> {
        let (spec, document): (Spec, Document) = millrace_service::config::read(name, text)?;
        let settings = Some(spec.settings.keys().cloned().collect());
        let mut compiler = Compiler { document: &document, path: Vec::new(), errors: Vec::new(), settings };
        let compiled = compiler.spec(spec, name);
        match compiled {
            Some(compiled) if compiler.errors.is_empty() => Ok(compiled),
            _ => Err(document.errors(compiler.errors)),
        }
    }
}

/// Collects what is wrong while it goes on.
struct Compiler<'d> {
    document: &'d Document,
    path: Vec<Step>,
    errors: Vec<ConfigError>,
    /// The names of the settings; `None` where expressions do not see them.
    settings: Option<Vec<String>>,
}

impl Compiler<'_> {
    fn spec(&mut self, spec: Spec, name: &str) -> Option<Compiled> {
        let spelled = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if spec.name.is_empty() || !spec.name.chars().all(spelled) {
            self.wrong::<()>(&["name"], "a name has lower-case letters, digits and _ alone".to_owned());
        }
        if spec.actions.is_empty() {
            self.wrong::<()>(&["actions"], "there is no action: nothing would ever be sent".to_owned());
        }
        self.settings(&spec);
        self.auth(&spec.http.auth);
        self.batch(&spec);
        if let Some(check) = &spec.check {
            self.within(&["check", "path"], |compiler| compiler.template(&check.path));
        }
        let base_url = self.within(&["http", "base_url"], |compiler| compiler.template(&spec.http.base_url));
        let headers = self.within(&["http", "headers"], |compiler| compiler.templates(&spec.http.headers));
        let mut actions = Vec::new();
        for (index, action) in spec.actions.iter().enumerate() {
            self.path = vec![Step::from("actions"), Step::from(index)];
            actions.extend(self.action(action));
        }
        self.path.clear();
        // What follows is about answers, and about the Config of another: no settings are seen there.
        self.settings = None;
        let (ok, classes) = self.result(&spec);
        let mut errors = Vec::new();
        for (index, rule) in spec.errors.iter().enumerate() {
            self.path = vec![Step::from("errors"), Step::from(index)];
            errors.push(self.optional("when", rule.when.as_deref()).map(Arc::new));
        }
        self.path.clear();
        let mut rudder = Vec::new();
        if let Some(theirs) = &spec.rudder {
            self.path = vec![Step::from("rudder"), Step::from("settings")];
            for (setting, field) in &theirs.settings {
                if !spec.settings.contains_key(setting) {
                    self.wrong::<()>(&[setting], format!("there is no setting {setting:?}"));
                }
                rudder.extend(self.field(setting, field).map(|field| (setting.clone(), field)));
            }
            self.path.clear();
        }
        Some(Compiled {
            name: name.to_owned(),
            base_url: base_url?,
            headers,
            actions,
            rudder,
            ok: ok.map(Arc::new),
            classes,
            errors,
            spec,
        })
    }

    fn settings(&mut self, spec: &Spec) {
        for (name, setting) in &spec.settings {
            let key = name.as_str();
            if ["allow_private", "origin"].contains(&key) {
                self.wrong::<()>(
                    &["settings", key],
                    format!("every destination has the setting {name:?} already"),
                );
            }
            if setting.secret && setting.default.is_some() {
                self.wrong::<()>(&["settings", key, "default"], "a secret has no default".to_owned());
            }
            if setting.required && setting.default.is_some() {
                self.wrong::<()>(
                    &["settings", key, "default"],
                    "a setting with a default is not required".to_owned(),
                );
            }
        }
    }

    fn batch(&mut self, spec: &Spec) {
        let Some(batch) = &spec.batch else { return };
        if batch.max_items == 0 {
            self.wrong::<()>(&["batch", "max_items"], "a batch has one item at least".to_owned());
        }
        if batch.wrap.is_none() && !spec.actions.iter().any(|action| action.request.array.is_some()) {
            let told = "it has no `wrap:` and no request has `array:`, so there is nothing to join";
            self.wrong::<()>(&["batch"], told.to_owned());
        }
        for (name, source) in &batch.with {
            self.within(&["batch", "with", name], |compiler| compiler.expression(source));
        }
    }

    fn auth(&mut self, auth: &Auth) {
        let texts: Vec<(&str, &str)> = match auth {
            Auth::None => Vec::new(),
            Auth::Bearer { token } => vec![("token", token)],
            Auth::Basic { username, password } => vec![("username", username), ("password", password)],
            Auth::Header { value, .. } | Auth::Query { value, .. } => vec![("value", value)],
            Auth::Hmac { key, .. } => vec![("key", key)],
            Auth::Oauth2Client { token_url, client_id, client_secret, .. } => {
                vec![("token_url", token_url), ("client_id", client_id), ("client_secret", client_secret)]
            }
            Auth::Oauth2Refresh { token_url, client_id, client_secret, refresh_token } => vec![
                ("token_url", token_url),
                ("client_id", client_id),
                ("client_secret", client_secret),
                ("refresh_token", refresh_token),
            ],
        };
        for (key, text) in texts {
            self.within(&["http", "auth", key], |compiler| compiler.template(text));
        }
    }

    fn action(&mut self, action: &Action) -> Option<CompiledAction> {
        let request = &action.request;
        let described = usize::from(request.body.is_some()) + usize::from(!action.map.is_empty());
        if request.format == Format::None && described > 0 {
            self.wrong::<()>(
                &["request", "format"],
                "a request without a body has no map and no body".to_owned(),
            );
        }
        if described == 2 {
            self.wrong::<()>(
                &["request", "body"],
                "a request has a body or the action has a map, not both".to_owned(),
            );
        }
        if request.format != Format::None && described == 0 {
            self.wrong::<()>(
                &[],
                "the action has neither map nor body; a request without body has format: none".to_owned(),
            );
        }
        if request.array.is_some() && request.format != Format::Json {
            self.wrong::<()>(&["request", "array"], "only JSON has arrays".to_owned());
        }
        let when = self.optional("when", action.when.as_deref());
        let mut reject = Vec::new();
        for (index, rule) in action.reject.iter().enumerate() {
            let depth = self.path.len();
            self.path.extend([Step::from("reject"), Step::from(index)]);
            reject.extend(self.optional("when", Some(&rule.when)).map(|when| (when, rule.reason.clone())));
            self.path.truncate(depth);
        }
        let method = request.method.to_uppercase();
        if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
            self.wrong::<()>(
                &["request", "method"],
                "a method is GET, POST, PUT, PATCH or DELETE".to_owned(),
            );
        }
        let path = self.within(&["request", "path"], |compiler| compiler.template(&request.path));
        let headers = self.within(&["request", "headers"], |compiler| compiler.templates(&request.headers));
        let query = self.within(&["request", "query"], |compiler| compiler.templates(&request.query));
        let whole = request.body.as_deref().is_some_and(|source| source.trim() == WHOLE_ITEM);
        let source = request.body.as_deref().filter(|_| !whole);
        let body = self.within(&["request"], |compiler| compiler.optional("body", source));
        let mut with = Vec::new();
        for (name, source) in &request.with {
            let made = self.within(&["request", "with", name], |compiler| compiler.expression(source));
            with.extend(made.map(|expression| (name.clone(), expression)));
        }
        let mut map = Vec::new();
        for (target, field) in &action.map {
            let Some(steps) = target_path(target) else {
                self.wrong::<()>(&["map", target], format!("{target:?} is no path: names joined by dots"));
                continue;
            };
            let compiled = self.within(&["map"], |compiler| compiler.field(target, field));
            map.extend(compiled.map(|field| (steps, field)));
        }
        Some(CompiledAction {
            name: action.name.clone(),
            when,
            reject,
            upserts: action.sync_modes.contains(&ChangeMode::Upsert),
            deletes: action.sync_modes.contains(&ChangeMode::Delete),
            method,
            path: path?,
            headers,
            query,
            format: request.format,
            body,
            whole,
            array: request.array.clone(),
            with,
            map,
            on_null: action.on_null,
        })
    }

    fn result(&mut self, spec: &Spec) -> (Option<Expression>, Vec<Arc<Expression>>) {
        let Some(result) = &spec.result else { return (None, Vec::new()) };
        if result.index.is_some() && result.id.is_some() {
            self.wrong::<()>(
                &["result", "id"],
                "an entry is found by index or by id, not by both".to_owned(),
            );
        }
        let ok = self.within(&["result"], |compiler| compiler.optional("ok", result.ok.as_deref()));
        let mut classes = Vec::new();
        for (index, rule) in result.classes.iter().enumerate() {
            self.path = vec![Step::from("result"), Step::from("classes"), Step::from(index)];
            classes.extend(self.optional("when", Some(&rule.when)).map(Arc::new));
        }
        self.path.clear();
        (ok, classes)
    }

    fn field(&mut self, name: &str, field: &Field) -> Option<CompiledField> {
        let compile = |source: &str| {
            let compiled = LANGUAGE.compile(source).map_err(|error| error.to_string())?;
            self.problem(source, compiled.paths()).map_or(Ok(compiled), Err)
        };
        let compiled = CompiledField::new(field, compile);
        match compiled {
            Ok(field) => Some(field),
            Err(("", told)) => self.wrong(&[name], told),
            Err((key, told)) => self.wrong(&[name, key], told),
        }
    }

    fn templates(&mut self, texts: &BTreeMap<String, String>) -> Vec<(String, Template)> {
        let mut templates = Vec::new();
        for (name, text) in texts {
            let made = self.within(&[name], |compiler| compiler.template(text));
            templates.extend(made.map(|template| (name.to_lowercase(), template)));
        }
        templates
    }

    fn optional(&mut self, key: &str, source: Option<&str>) -> Option<Expression> {
        let source = source?;
        self.within(&[key], |compiler| compiler.expression(source))
    }

    fn expression(&mut self, source: &str) -> Option<Expression> {
        let compiled = LANGUAGE.compile(source);
        let compiled = self.found(compiled)?;
        match self.problem(source, compiled.paths()) {
            Some(problem) => self.wrong(&[], problem),
            None => Some(compiled),
        }
    }

    fn template(&mut self, source: &str) -> Option<Template> {
        let compiled = LANGUAGE.template(source);
        let compiled = self.found(compiled)?;
        match self.problem(source, compiled.paths()) {
            Some(problem) => self.wrong(&[], problem),
            None => Some(compiled),
        }
    }

    /// What is wrong with an expression that compiles and reads these paths.
    fn problem(&self, source: &str, paths: HashSet<String>) -> Option<String> {
        let words: Vec<&str> = source.split_whitespace().collect();
        if words.windows(2).any(|pair| matches!(pair, ["==" | "!=", none] if none.starts_with("none"))) {
            return Some("what is null counts as missing: write `is none` or `is not none`".to_owned());
        }
        let settings = self.settings.as_ref()?;
        let of_settings = paths.iter().filter_map(|path| path.strip_prefix("settings."));
        let mut unknown: Vec<&str> = of_settings
            .filter_map(|path| path.split('.').next())
            .filter(|name| !settings.iter().any(|known| known == name))
            .collect();
        unknown.sort_unstable();
        let name = unknown.first()?;
        Some(format!("there is no setting {name:?}; the settings are: {}", settings.join(", ")))
    }

    fn found<T>(&mut self, compiled: Result<T, ExpressionError>) -> Option<T> {
        match compiled {
            Ok(compiled) => Some(compiled),
            Err(error) => self.wrong(&[], error.to_string()),
        }
    }

    /// Goes on below these keys.
    fn within<T>(&mut self, keys: &[&str], inner: impl FnOnce(&mut Self) -> T) -> T {
        let depth = self.path.len();
        self.path.extend(keys.iter().map(|key| Step::from(*key)));
        let value = inner(self);
        self.path.truncate(depth);
        value
    }

    fn wrong<T>(&mut self, keys: &[&str], message: String) -> Option<T> {
        let mut path = self.path.clone();
        path.extend(keys.iter().map(|key| Step::from(*key)));
        self.errors.push(self.document.error(&path, message));
        None
    }
}

/// The steps of a target path; a dot behind a backslash belongs to the name.
fn target_path(text: &str) -> Option<Vec<String>> {
    let mut steps = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '.' if !escaped => steps.push(String::new()),
            c => steps.last_mut()?.push(c),
        }
        escaped = false;
    }
    (!steps.iter().any(String::is_empty)).then_some(steps)
}
