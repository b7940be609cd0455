//! URLs of Redis, good and bad.

use super::*;

#[test]
fn each_topology_has_its_url() {
    for url in ["redis://h:1/2", "rediss://user:word@h", "redis://h"] {
        assert!(
            matches!(Servers::parse(url), Ok(Servers::Standalone(_))),
            "{url}"
        );
    }
    let Ok(Servers::Cluster(nodes)) = Servers::parse("redis+cluster://u:p@h:1,h2:2") else {
        panic!("not a cluster");
    };
    assert_eq!(nodes.len(), 2);
    assert_eq!(nodes[1].redis_settings().username(), Some("u"));
    let Ok(Servers::Sentinel { nodes, name }) = Servers::parse("rediss+sentinel://h:1,h2:2/main")
    else {
        panic!("not sentinels");
    };
    assert_eq!((nodes.len(), name.as_str()), (2, "main"));
}

#[test]
fn a_bad_url_is_refused_with_a_reason() {
    for bad in [
        "",
        "localhost:6379",
        "http://h",
        "redis+sentinel://h:1",
        "redis+x://h",
        "redis://",
        "rediss://h/#insecure",
        "rediss+cluster://h:1#insecure",
        "redis+cluster://h:1,h2:2/1",
    ] {
        assert!(
            matches!(Servers::parse(bad), Err(Error::Settings(_))),
            "{bad}"
        );
    }
}
