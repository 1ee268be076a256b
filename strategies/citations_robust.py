"""The papers that robust and private entries of the catalogue come from."""

from __future__ import annotations

from strategies.citation import Citation

YIN_2018 = Citation(
    "yin2018byzantine",
    ("Yin, Dong", "Chen, Yudong", "Ramchandran, Kannan", "Bartlett, Peter"),
    "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
    2018,
    "International Conference on Machine Learning (ICML)",
    "1803.01498",
)

BLANCHARD_2017 = Citation(
    "blanchard2017machine",
    (
        "Blanchard, Peva",
        "El Mhamdi, El Mahdi",
        "Guerraoui, Rachid",
        "Stainer, Julien",
    ),
    "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
    2017,
    "Advances in Neural Information Processing Systems (NeurIPS)",
    "1703.02757",
)

PILLUTLA_2022 = Citation(
    "pillutla2022robust",
    ("Pillutla, Krishna", "Kakade, Sham M.", "Harchaoui, Zaid"),
    "Robust Aggregation for Federated Learning",
    2022,
    "IEEE Transactions on Signal Processing",
    "1912.13445",
)

ELMHAMDI_2018 = Citation(
    "elmhamdi2018hidden",
    ("El Mhamdi, El Mahdi", "Guerraoui, Rachid", "Rouault, S{\\'e}bastien"),
    "The Hidden Vulnerability of Distributed Learning in Byzantium",
    2018,
    "International Conference on Machine Learning (ICML)",
    "1802.07927",
)

SUN_2019 = Citation(
    "sun2019can",
    ("Sun, Ziteng", "Kairouz, Peter", "Suresh, Ananda Theertha", "McMahan, H. Brendan"),
    "Can You Really Backdoor Federated Learning?",
    2019,
    "",
    "1911.07963",
)

MCMAHAN_2018 = Citation(
    "mcmahan2018learning",
    ("McMahan, H. Brendan", "Ramage, Daniel", "Talwar, Kunal", "Zhang, Li"),
    "Learning Differentially Private Recurrent Language Models",
    2018,
    "International Conference on Learning Representations (ICLR)",
    "1710.06963",
)

ANDREW_2021 = Citation(
    "andrew2021adaptive",
    ("Andrew, Galen", "Thakkar, Om", "McMahan, H. Brendan", "Ramaswamy, Swaroop"),
    "Differentially Private Learning with Adaptive Clipping",
    2021,
    "Advances in Neural Information Processing Systems",
    "1905.03871",
)

KARIMIREDDY_2021 = Citation(
    "karimireddy2021learning",
    ("Karimireddy, Sai Praneeth", "He, Lie", "Jaggi, Martin"),
    "Learning from History for Byzantine Robust Optimization",
    2021,
    "International Conference on Machine Learning (ICML)",
    "2012.10333",
)

KARIMIREDDY_2022 = Citation(
    "karimireddy2022byzantine",
    ("Karimireddy, Sai Praneeth", "He, Lie", "Jaggi, Martin"),
    "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing",
    2022,
    "International Conference on Learning Representations (ICLR)",
    "2006.09365",
)

ALLOUAH_2023 = Citation(
    "allouah2023fixing",
    (
        "Allouah, Youssef",
        "Farhadkhani, Sadegh",
        "Guerraoui, Rachid",
        "Gupta, Nirupam",
        "Pinot, Rafael",
        "Stephan, John",
    ),
    "Fixing by Mixing: A Recipe for Optimal Byzantine ML under Heterogeneity",
    2023,
    "Artificial Intelligence and Statistics (AISTATS)",
    "2302.01772",
)

SHEJWALKAR_2021 = Citation(
    "shejwalkar2021manipulating",
    ("Shejwalkar, Virat", "Houmansadr, Amir"),
    "Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for Federated "
    "Learning",
    2021,
    "Network and Distributed System Security Symposium (NDSS)",
    "",
)

FUNG_2018 = Citation(
    "fung2018mitigating",
    ("Fung, Clement", "Yoon, Chris J. M.", "Beschastnikh, Ivan"),
    "Mitigating Sybils in Federated Learning Poisoning",
    2018,
    "",
    "1808.04866",
)

XU_2022 = Citation(
    "xu2022byzantine",
    ("Xu, Jian", "Huang, Shao-Lun", "Song, Linqi", "Lan, Tian"),
    "Byzantine-Robust Federated Learning through Collaborative Malicious Gradient Filtering",
    2022,
    "International Conference on Distributed Computing Systems (ICDCS)",
    "2109.05872",
)

CAO_2021 = Citation(
    "cao2021fltrust",
    ("Cao, Xiaoyu", "Fang, Minghong", "Liu, Jia", "Gong, Neil Zhenqiang"),
    "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping",
    2021,
    "Network and Distributed System Security Symposium (NDSS)",
    "2012.13995",
)
