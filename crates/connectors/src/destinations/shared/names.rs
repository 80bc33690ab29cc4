//! What a page or screen view is called, by the user's own template.

use millrace_connector::Document;

use super::fields::pick_text;

/// Fills `{{ path }}` with the event's texts, such as `Viewed {{ category }} {{ name }} page`; `name`,
/// `category` and the like are also looked for in `properties`. What the event does not say is left out,
/// and of several blanks in a row one stays.
pub(crate) fn render(template: &str, document: &Document) -> String {
    let mut words = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((path, behind)) = after.split_once("}}") else { break };
        words.push_str(before);
        let path = path.trim();
        let inner = format!("properties.{path}");
        words.push_str(&pick_text(document, &[path, &inner]).unwrap_or_default());
        rest = behind;
    }
    words.push_str(rest);
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_takes_what_the_event_says() {
        let fields = json!({"name": "Pricing", "properties": {"category": "Docs", "n": 3}});
        let document = Document::complete(fields.as_object().unwrap().clone());
        let cases = [
            ("Viewed {{ category }} {{name}} page", "Viewed Docs Pricing page"),
            ("Viewed {{ nothing }} page", "Viewed page"),
            ("{{properties.n}} of {{ name", "3 of {{ name"),
        ];
        for (template, name) in cases {
            assert_eq!(render(template, &document), name, "{template}");
        }
    }
}
