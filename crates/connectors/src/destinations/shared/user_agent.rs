//! Which browser a `User-Agent` text names.

/// A browser's name and version, such as `("Chrome", "79.0.3945.117")`. None for what is no known browser.
pub(crate) fn browser(user_agent: &str) -> Option<(&'static str, String)> {
    BROWSERS.iter().find_map(|(mark, name)| Some((*name, version(user_agent, mark)?)))
}

/// In the order in which they are looked for: most browsers also call themselves those below.
const BROWSERS: &[(&str, &str)] = &[
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("Edge/", "Edge"),
    ("OPR/", "Opera"),
    ("YaBrowser/", "Yandex"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("UCBrowser/", "UCBrowser"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    // Safari says its own version after `Version/`, and WebKit's after `Safari/`.
    ("Version/", "Safari"),
    ("MSIE ", "IE"),
];

/// The digits and dots behind the mark.
fn version(user_agent: &str, mark: &str) -> Option<String> {
    let (_, behind) = user_agent.split_once(mark)?;
    let version: String = behind.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    (!version.is_empty()).then_some(version)
}

/// The operating system that a `User-Agent` text names, such as `Mac`.
pub(crate) fn system(user_agent: &str) -> Option<&'static str> {
    SYSTEMS.iter().find(|(mark, _)| user_agent.contains(mark)).map(|(_, name)| *name)
}

/// In the order in which they are looked for: phones also name what their system was made of.
const SYSTEMS: &[(&str, &str)] = &[
    ("Windows Phone", "Windows Phone"),
    ("Windows", "Windows"),
    ("iPhone", "iOS"),
    ("iPad", "iOS"),
    ("iPod", "iOS"),
    ("Macintosh", "Mac"),
    ("Android", "Android"),
    ("CrOS", "Chromium OS"),
    ("Ubuntu", "Ubuntu"),
    ("Linux", "Linux"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_particular_name_counts() {
        let cases = [
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0.1 Safari/537.36 Edg/120.0.2",
                Some(("Edge", "120.0.2")),
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0.1 Safari/537.36",
                Some(("Chrome", "120.0.1")),
            ),
            (
                "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Version/17.1 Safari/605.1.15",
                Some(("Safari", "17.1")),
            ),
            ("Mozilla/5.0 (X11; rv:121.0) Gecko/20100101 Firefox/121.0", Some(("Firefox", "121.0"))),
            ("Dalvik/2.1.0 (Linux; U; Android 12)", None),
        ];
        for (user_agent, expected) in cases {
            let found = browser(user_agent);
            assert_eq!(
                found.as_ref().map(|(name, version)| (*name, version.as_str())),
                expected,
                "{user_agent}"
            );
        }
    }

    #[test]
    fn a_system_is_what_its_phones_also_call_themselves_by() {
        let cases = [
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15", Some("iOS")),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36", Some("Mac")),
            ("Mozilla/5.0 (Linux; Android 14; K) AppleWebKit/537.36", Some("Android")),
            ("curl/8.4.0", None),
        ];
        for (user_agent, expected) in cases {
            assert_eq!(system(user_agent), expected, "{user_agent}");
        }
    }
}
