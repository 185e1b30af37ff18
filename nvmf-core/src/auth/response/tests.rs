//! Responses against values that were computed without this code, by `vectors.py` beside this file (Python's hashlib, hmac and pow). The byte strings that go
//! into them are those of Linux (`drivers/nvme/common/auth.c`, `drivers/nvme/target/auth.c`).

use super::*;
use crate::auth::dh::PrivateKey;
use crate::wire::auth::GroupId;

const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001";
const SUBSYSTEM: &str = "nqn.2024-01.example:disk";
const TRANSACTION: u16 = 0x5566;
const S1: u32 = 0x1122_3344;
const S2: u32 = 0x7788_99AA;

/// The host's secret, the controller's; hash function, group; R1, R2.
type Vector = (&'static str, &'static str, u8, u8, &'static str, &'static str);

#[rustfmt::skip]
const VECTORS: &[Vector] = &[
    ("DHHC-1:00:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09pl1OOC:", "DHHC-1:00:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTym4roo:", 1, 0,
        "29673f456e0dbd845f0f972b13154819beb6579c0cd235915b765c68d67467dd",
        "d802a6cbce7338f51fd94b1a03ac496ca875e7a3f326ee945887a5cb232324bb"),
    ("DHHC-1:00:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09pl1OOC:", "DHHC-1:00:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTym4roo:", 1, 4,
        "c2ed4a07ece007fd9046947a9e620f2590a77d248e054548e0994e52148f2542",
        "391ca4370c02c15514b980d0193c8694cc672e14e82e1ff6507f21d586d8ce80"),
    ("DHHC-1:00:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09pl1OOC:", "DHHC-1:00:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTym4roo:", 2, 0,
        "afdd576d6161179d37325f3a9535c554779d6ad48499e299f4149dcf619e1b8d676408d11cea64448367d086c813f8d7",
        "e4dfa94b12d000aa0934f87d2f4c9ea82c5187c5d4787e0fea121ed81405ed7abeb8c3d210df5bf340df361b003aef30"),
    ("DHHC-1:00:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09pl1OOC:", "DHHC-1:00:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTym4roo:", 3, 0,
        "95b55b6788adb175a49353a9e7ac617af40fda884e211e5bd64a7323507644d523808d361f47bade6dbae66d484a8173002e0f3065a77b41b2a8593536dc85bb",
        "28bcb8c5d0a7c7b44adebda5c886cb7167ab3fcf6186734ceb00c6ae930e25833f6ee1e7122355cb408d86da1cfc05ca83e13de35a88980e5c8bc1922246b305"),
    ("DHHC-1:01:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09pl1OOC:", "DHHC-1:01:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTym4roo:", 1, 0,
        "e9e1189f6362f6a1f607cffe0c2e7649c3605f45c0fcdef5080c3b21333ca392",
        "04fd54d0e2edfa6024884903674c1cb75c9985b7ae122dbe2c5bf91305b17645"),
    ("DHHC-1:01:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09pl1OOC:", "DHHC-1:01:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTym4roo:", 1, 1,
        "4d932a0b90a2655813539e491522ac41ef4d6ab40b3c2a940648d283d140b13e",
        "8a73c67494263a8c4dea2f419e03143831da8b2f76ce7dcd9fc9dee9c09cb052"),
    ("DHHC-1:01:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09pl1OOC:", "DHHC-1:01:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTym4roo:", 1, 5,
        "6d6a4308a4a02f4508e91ccd6a7e6ac3089afb7c01ffbbb1ec3a3e471442dfdc",
        "2fdfe73db16f8d25456c9b1a4385c474f699713893cc443d64f0092e80a025de"),
    ("DHHC-1:01:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09pl1OOC:", "DHHC-1:01:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTym4roo:", 2, 0,
        "237a9bcdd10b5837070b5d9471c6fef8b66e1a546658ce644463d0e72367a1d190b257f8fb2cb47ce961cfc50551c2e1",
        "e9e28049eb9b300ad4c8f927d73709afee230e2b075c78985cc45a301b35ba1a92f111bc446cd81008447e739ad151dc"),
    ("DHHC-1:01:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09pl1OOC:", "DHHC-1:01:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTym4roo:", 2, 1,
        "9b694af89482adae3fa7b3869a6bd5be85349df2d791834fdfd56f505841940fb3a1329839e75fdc6a044a078bb0fd4b",
        "060420acd52cd037e3e168cee0ad00d922e13b35a46d8851718ac28c460f8a1df46e8ca164fd1f80eef06404d28942ed"),
    ("DHHC-1:01:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09pl1OOC:", "DHHC-1:01:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTym4roo:", 2, 5,
        "88af90467053c07514f3b3736958d10206a45800b23ed289c5c33b3cb8151ba36668c010a9074864588edab295f02330",
        "11a270e42d1494a6427c804a81df8915d479d57608a648e2ff7cf8ab11b51f79092c59e9b7cf76a7c55a8aee34aff946"),
    ("DHHC-1:01:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09pl1OOC:", "DHHC-1:01:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTym4roo:", 3, 0,
        "24883986c2f9ef5016b43e3e03fd129bd9d97755c92bebb1b2fae8dfd81235180953ccb789c43a92b42732505d4289a555b92367e99e58a12f8700b4caee1022",
        "9e7717ca41c0007247a76f6384a7e1415c440fa12c604bdff7d35eaea390b1906a525094f719b8269c85edef1261f8164b84e88ee4f318404e223acfa1047cd3"),
    ("DHHC-1:01:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09pl1OOC:", "DHHC-1:01:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTym4roo:", 3, 1,
        "94b135faee7f905160670f3d2157cdb184c7b748bb4c2cc7fa79375db1408f4cea94c496ec72a8317c8befbf7717c487b87d6261a07902192ded88ceb899fb8f",
        "2e33f58c8f302ba7916044d330d41b227a99f9fa8918239d42a5ba9f9741e5d84726a54128bdcaba94cb357341624e570eb883cd0a848384f48ad0c9bafc5573"),
    ("DHHC-1:01:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09pl1OOC:", "DHHC-1:01:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTym4roo:", 3, 5,
        "7ef7a003ce00dcc4035a97b27abc6b772f877a29058228689de0f5780fccbb4b8bdac53ec318ab1bcef87d222c6fdf08bf2988f299ba7ee448d60d44eaeb8008",
        "3ff79719415f8b47d584fca72fd4236aebf2c8d2ac57f994a376ef7fdb03060a22bb19b1837503a678a7053daaa5ff0a5ebf445a187c7efb179368f66eefb3ed"),
    ("DHHC-1:02:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09rh6O/2/QQLEhkgJy41PENKDH94wg==:", "DHHC-1:02:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTxDSlFYX2ZtdHuCiZCXnqWsuqgvog==:", 1, 0,
        "8628b1109ef36030a8a15c5add9878f461ddc00b40e8e69fb604f9e7044eef99",
        "f30a07e917fbb7ecf6d3e17447c6cbdb7d59eac0d10bbe99c6195323d43dc751"),
    ("DHHC-1:02:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09rh6O/2/QQLEhkgJy41PENKDH94wg==:", "DHHC-1:02:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTxDSlFYX2ZtdHuCiZCXnqWsuqgvog==:", 2, 2,
        "46bfceaa75311b2f50b3ad6d6df801531736d567a957ad0f9df3bd40193c256e633a86070170986874e82c8f8b2bc173",
        "3250c6eab9a428e5a7e50255a1259c27a466de7456aeaca95202bdf7a008ff1aacf06f975b0aaa541d04eeb2e3eaf36c"),
    ("DHHC-1:02:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09rh6O/2/QQLEhkgJy41PENKDH94wg==:", "DHHC-1:02:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTxDSlFYX2ZtdHuCiZCXnqWsuqgvog==:", 3, 0,
        "4d513bf8397002d99088764cad486725776b66d1259da7e751bed0c0735806bf16d80724fd58cb9e2b1b6ab69cbe65879aac7e014aed7dcd05b9141ff81d8724",
        "80231a3c0468ca0105c16f7fbace74d88059cf6371fdb2f35a4fb26559c717599243a19b0033bd6fe98e65a6cfcc7688ef97e1e3f9f6e6fa53e084366a0996df"),
    ("DHHC-1:03:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09rh6O/2/QQLEhkgJy41PENKUVhfZm10e4KJkJeepayzuiyBBng=:", "DHHC-1:03:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vkABw4VHB+maY4=:", 1, 0,
        "6402f44cf98c089fd944d843c591f7289c71343d99e220804f5c2b5217d9ac9f",
        "fb5c62e5d3d5abd6bebc8a3581b8ba7315ce1fd0bb559c36975e150496f40d64"),
    ("DHHC-1:03:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09rh6O/2/QQLEhkgJy41PENKUVhfZm10e4KJkJeepayzuiyBBng=:", "DHHC-1:03:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vkABw4VHB+maY4=:", 2, 0,
        "7f4e18db741ac3fb0c6ea6ac51642f5fda2f29bb71a81e91932da386353c59bf3c129832f61ce8cb5eca452c01c58f7b",
        "63a1d95b23e8980016345f87edd5af8fd0777a8af10ceaaac0fbab0e89d63ae5d48622ac7f061dfb699df75ad3809a42"),
    ("DHHC-1:03:AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09rh6O/2/QQLEhkgJy41PENKUVhfZm10e4KJkJeepayzuiyBBng=:", "DHHC-1:03:Y2pxeH+GjZSboqmwt77FzNPa4ejv9v0ECxIZICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vkABw4VHB+maY4=:", 3, 3,
        "dea70304b0ee8bf3c454d6494d0da625ca8fa5fc0453de759f59c465478a88b61892eeca0af069b272fe47d89c7be6d4bf5fa89fd91d6126f44c3803ed49b4bb",
        "862575fcdcbe1ad3a7201cf3b21540bb3d5109db99e2e2035db354281dea166561a72f344f5ee92d2f418b54755b33479607086a54d89cc76bcf932846da1a68"),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn responses_are_those_of_others() {
    for (host, controller, hash, group, r1, r2) in VECTORS {
        let (host, controller) = (Secret::parse(host).unwrap(), Secret::parse(controller).unwrap());
        let (hash, group) = (HashId::from_byte(*hash).unwrap(), GroupId::from_byte(*group).unwrap());
        let key = |byte| PrivateKey::draw(group, &mut |bytes: &mut [u8]| bytes.fill(byte));
        let shared = key(0x11).zip(key(0x22)).map(|(ours, theirs)| ours.shared(&theirs.public()).unwrap());
        let terms = Terms {
            hash,
            transaction: TRANSACTION,
            host_nqn: HOST,
            subsystem_nqn: SUBSYSTEM,
            shared: shared.as_ref().map(|shared| shared.as_slice()),
        };
        let n = u8::try_from(hash.code_len()).unwrap();
        let (c1, c2): (Vec<u8>, Vec<u8>) = ((0..n).collect(), (100..100 + n).collect());
        let ours = of_host(&host, &terms, &c1, S1);
        assert_eq!(hex(ours.as_bytes()), *r1, "{hash:?} {group:?}");
        assert_eq!(hex(of_controller(&controller, &terms, &c2, S2).as_bytes()), *r2, "{hash:?} {group:?}");
        assert!(is(&ours, ours.as_bytes()) && !is(&ours, &ours.as_bytes()[1..]) && !is(&ours, &[]));
        // Every part of it counts.
        let others = [
            of_host(&host, &terms, &c1, S2),
            of_host(&host, &terms, &c2, S1),
            of_host(&controller, &terms, &c1, S1),
            of_controller(&host, &terms, &c1, S1),
            of_host(&host, &Terms { transaction: 1, ..terms }, &c1, S1),
            of_host(&host, &Terms { host_nqn: SUBSYSTEM, ..terms }, &c1, S1),
            of_host(&host, &Terms { subsystem_nqn: HOST, ..terms }, &c1, S1),
            of_host(&host, &Terms { shared: Some(&[1]), ..terms }, &c1, S1),
        ];
        assert!(others.iter().all(|other| !is(&ours, other.as_bytes())));
    }
}
