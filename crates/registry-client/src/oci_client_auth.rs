use oci_client::secrets::RegistryAuth;

use crate::credentials::Credentials;

impl From<RegistryAuth> for Credentials {
    fn from(auth: RegistryAuth) -> Self {
        match auth {
            RegistryAuth::Anonymous => Self::Anonymous,
            RegistryAuth::Basic(username, password) => Self::Basic { username, password },
            RegistryAuth::Bearer(token) => Self::Bearer(token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_authenticate_has_its_credentials() {
        let basic = RegistryAuth::Basic("u".into(), "p".into());
        let expected = Credentials::Basic {
            username: "u".into(),
            password: "p".into(),
        };
        assert_eq!(Credentials::from(basic), expected);
        let bearer = RegistryAuth::Bearer("t".into());
        assert_eq!(Credentials::from(bearer), Credentials::Bearer("t".into()));
        let anonymous = Credentials::from(RegistryAuth::Anonymous);
        assert_eq!(anonymous, Credentials::Anonymous);
    }
}
