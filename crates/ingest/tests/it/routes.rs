//! All routes, as the stage itself lists them at `/docs`.

use millrace_service::admin::PATHS;
use reqwest::Method;

use crate::stack::{Stack, answer};

/// Methods and path of each row of the page.
async fn listed(stack: &Stack) -> Vec<(String, String)> {
    let page = answer(stack.http.get(format!("{}/docs", stack.url))).await.1;
    let mut routes = Vec::new();
    for row in page.split("<tr><td>").skip(1) {
        let (methods, rest) = row.split_once("<td><code>").unwrap();
        let (path, _) = rest.split_once("</code>").unwrap();
        routes.push((methods.to_owned(), path.to_owned()));
    }
    routes
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_its_methods_and_no_other_and_pages_may_read_it() {
    let stack = Stack::start_as(|options| options.internal = true).await;
    let routes = listed(&stack).await;
    assert!(routes.len() > 30, "{routes:?}");
    for (_, path) in &routes {
        let of_path = routes.iter().filter(|(_, other)| other == path);
        let allowed: Vec<&str> = of_path.flat_map(|(methods, _)| methods.split(", ")).collect();
        let url = format!("{}{}", stack.url, path.replace("{key}", "WK"));
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            let method: Method = method.parse().unwrap();
            let request =
                stack.http.request(method.clone(), &url).header("origin", "https://www.example.com");
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let headers = response.headers().clone();
            if allowed.contains(&method.as_str()) {
                assert!(![404, 405, 500].contains(&status), "{method} {path}: {status}");
            } else {
                assert_eq!(status, 405, "{method} {path}");
                assert!(headers.contains_key("allow"), "{method} {path}");
            }
            let may_read = headers.contains_key("access-control-allow-origin");
            assert_eq!(may_read, !path.starts_with("/internal/"), "{method} {path}");
        }
    }
    assert!(stack.stored().await.is_empty(), "nothing is stored without a key");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_admin_path_answers_on_the_port_for_events() {
    let stack = Stack::start_as(|options| options.internal = true).await;
    for path in PATHS.iter().chain(&["/api", "/api/v1", "/console", "/login", "/debug/pprof"]) {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let request = stack.http.request(method.clone(), format!("{}{path}", stack.url));
            assert_eq!(answer(request).await.0.as_u16(), 404, "{method} {path}");
        }
    }
    let routes = listed(&stack).await;
    assert!(!routes.iter().any(|(_, path)| PATHS.contains(&path.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_lists_internal_paths_only_where_they_are() {
    let stack = Stack::start().await;
    assert!(listed(&stack).await.iter().all(|(_, path)| !path.starts_with("/internal/")));
}
