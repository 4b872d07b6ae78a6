//! Nicknames of guests. A nickname consists of a Korean adjective and the Korean name of an animal (SPEC 3).

const ADJECTIVES: [&str; 40] = [
    "용감한",
    "다정한",
    "느긋한",
    "영리한",
    "씩씩한",
    "수줍은",
    "명랑한",
    "조용한",
    "배고픈",
    "졸린",
    "반짝이는",
    "포근한",
    "엉뚱한",
    "상냥한",
    "날렵한",
    "든든한",
    "귀여운",
    "호기심많은",
    "차분한",
    "유쾌한",
    "성실한",
    "겸손한",
    "당당한",
    "자유로운",
    "따뜻한",
    "시원한",
    "부지런한",
    "재빠른",
    "너그러운",
    "꼼꼼한",
    "발랄한",
    "산뜻한",
    "우아한",
    "의젓한",
    "익살스런",
    "정겨운",
    "푸근한",
    "해맑은",
    "활기찬",
    "흥겨운",
];

const ANIMALS: [&str; 40] = [
    "고양이",
    "강아지",
    "수달",
    "토끼",
    "여우",
    "판다",
    "코알라",
    "다람쥐",
    "고슴도치",
    "펭귄",
    "돌고래",
    "올빼미",
    "호랑이",
    "사자",
    "기린",
    "코끼리",
    "하마",
    "너구리",
    "사슴",
    "두루미",
    "거북이",
    "물개",
    "바다표범",
    "햄스터",
    "알파카",
    "라마",
    "족제비",
    "오소리",
    "비버",
    "참새",
    "까치",
    "두더지",
    "표범",
    "치타",
    "캥거루",
    "나무늘보",
    "미어캣",
    "플라밍고",
    "앵무새",
    "해달",
];

/// Returns one of 1,600 nicknames for a random number. Nicknames are only displayed, so they need not be unique.
pub fn nickname(random: u64) -> String {
    let pick = |words: &[&'static str; 40], at: u64| words[(at % 40) as usize];
    format!("{} {}", pick(&ADJECTIVES, random), pick(&ANIMALS, random / 40))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nickname_is_an_adjective_and_an_animal() {
        assert_eq!(nickname(0), "용감한 고양이");
        assert_eq!(nickname(41), "다정한 강아지");
        assert!((0..1_600).map(nickname).all(|name| name.chars().count() <= 50 && name.split(' ').count() == 2));
    }
}
