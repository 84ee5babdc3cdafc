use super::*;

#[test]
fn the_rules_are_those_of_the_whole_purpose() {
    let needed = vec![Right::to_review_tokens(), Right::to_read("/openid/v1/jwks")];
    let missing = MissingRights {
        user: "system:serviceaccount:a:b".into(),
        missing: needed.clone().into(),
        needed: needed.into(),
    };
    assert_eq!(
        missing.to_string(),
        "it does not allow the gateway (system:serviceaccount:a:b) to create \
         tokenreviews.authentication.k8s.io, nor to get /openid/v1/jwks; bind its service account to a \
         ClusterRole (the Helm chart's `rbac.create` makes it) with rules: [{apiGroups: \
         [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}, {nonResourceURLs: \
         [/openid/v1/jwks], verbs: [get]}]"
    );
    let secret = |verb| Right::on_secret(verb, "qa", "slack");
    let missing = MissingRights {
        user: "".into(),
        missing: [secret("watch")].into(),
        needed: [secret("list"), secret("watch")].into(),
    };
    assert_eq!(
        missing.to_string(),
        "it does not allow the gateway to watch Secret slack in namespace qa; bind its service account to a \
         Role in namespace qa with rules: [{apiGroups: [\"\"], resources: [secrets], resourceNames: [slack], \
         verbs: [list, watch]}]"
    );
}
