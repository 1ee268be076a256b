"""The papers that the catalogue's algorithms come from."""

from __future__ import annotations

from strategies.citation import Citation

MCMAHAN_2017 = Citation(
    "mcmahan2017communication",
    (
        "McMahan, H. Brendan",
        "Moore, Eider",
        "Ramage, Daniel",
        "Hampson, Seth",
        'Ag{\\"u}era y Arcas, Blaise',
    ),
    "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    2017,
    "Artificial Intelligence and Statistics (AISTATS)",
    "1602.05629",
)

LI_2020_FEDPROX = Citation(
    "li2020federated",
    (
        "Li, Tian",
        "Sahu, Anit Kumar",
        "Zaheer, Manzil",
        "Sanjabi, Maziar",
        "Talwalkar, Ameet",
        "Smith, Virginia",
    ),
    "Federated Optimization in Heterogeneous Networks",
    2020,
    "Machine Learning and Systems (MLSys)",
    "1812.06127",
)

REDDI_2021 = Citation(
    "reddi2021adaptive",
    (
        "Reddi, Sashank J.",
        "Charles, Zachary",
        "Zaheer, Manzil",
        "Garrett, Zachary",
        "Rush, Keith",
        "Kone{\\v{c}}n{\\'y}, Jakub",
        "Kumar, Sanjiv",
        "McMahan, H. Brendan",
    ),
    "Adaptive Federated Optimization",
    2021,
    "International Conference on Learning Representations (ICLR)",
    "2003.00295",
)

HSU_2019 = Citation(
    "hsu2019measuring",
    ("Hsu, Tzu-Ming Harry", "Qi, Hang", "Brown, Matthew"),
    "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
    2019,
    "",
    "1909.06335",
)

WANG_2020 = Citation(
    "wang2020tackling",
    ("Wang, Jianyu", "Liu, Qinghua", "Liang, Hao", "Joshi, Gauri", "Poor, H. Vincent"),
    "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization",
    2020,
    "Advances in Neural Information Processing Systems (NeurIPS)",
    "2007.07481",
)

KARIMIREDDY_2020 = Citation(
    "karimireddy2020scaffold",
    (
        "Karimireddy, Sai Praneeth",
        "Kale, Satyen",
        "Mohri, Mehryar",
        "Reddi, Sashank J.",
        "Stich, Sebastian U.",
        "Suresh, Ananda Theertha",
    ),
    "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
    2020,
    "International Conference on Machine Learning (ICML)",
    "1910.06378",
)

ACAR_2021 = Citation(
    "acar2021federated",
    (
        "Acar, Durmus Alp Emre",
        "Zhao, Yue",
        "Matas Navarro, Ramon",
        "Mattina, Matthew",
        "Whatmough, Paul N.",
        "Saligrama, Venkatesh",
    ),
    "Federated Learning Based on Dynamic Regularization",
    2021,
    "International Conference on Learning Representations (ICLR)",
    "2111.04263",
)

LI_2020_FAIR = Citation(
    "li2020fair",
    ("Li, Tian", "Sanjabi, Maziar", "Beirami, Ahmad", "Smith, Virginia"),
    "Fair Resource Allocation in Federated Learning",
    2020,
    "International Conference on Learning Representations (ICLR)",
    "1905.10497",
)

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

LI_2021_MOON = Citation(
    "li2021model",
    ("Li, Qinbin", "He, Bingsheng", "Song, Dawn"),
    "Model-Contrastive Federated Learning",
    2021,
    "IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    "2103.16257",
)

LEE_2022 = Citation(
    "lee2022preservation",
    ("Lee, Gihun", "Jeong, Minchan", "Shin, Yongjin", "Bae, Sangmin", "Yun, Se-Young"),
    "Preservation of the Global Knowledge by Not-True Distillation in Federated Learning",
    2022,
    "Advances in Neural Information Processing Systems (NeurIPS)",
    "2106.03097",
)

SHI_2023 = Citation(
    "shi2023towards",
    ("Shi, Yujun", "Liang, Jian", "Zhang, Wenqing", "Tan, Vincent Y. F.", "Bai, Song"),
    "Towards Understanding and Mitigating Dimensional Collapse in Heterogeneous Federated Learning",
    2023,
    "International Conference on Learning Representations (ICLR)",
    "2210.00226",
)

ZHANG_2022 = Citation(
    "zhang2022federated",
    (
        "Zhang, Jie",
        "Li, Zhiqi",
        "Li, Bo",
        "Xu, Jianghe",
        "Wu, Shuang",
        "Ding, Shouhong",
        "Wu, Chao",
    ),
    "Federated Learning with Label Distribution Skew via Logits Calibration",
    2022,
    "International Conference on Machine Learning (ICML)",
    "2209.00189",
)

ARIVAZHAGAN_2019 = Citation(
    "arivazhagan2019federated",
    (
        "Arivazhagan, Manoj Ghuhan",
        "Aggarwal, Vinay",
        "Singh, Aaditya Kumar",
        "Choudhary, Sunav",
    ),
    "Federated Learning with Personalization Layers",
    2019,
    "",
    "1912.00818",
)

LI_2021_FEDBN = Citation(
    "li2021fedbn",
    ("Li, Xiaoxiao", "Jiang, Meirui", "Zhang, Xiaofei", "Kamp, Michael", "Dou, Qi"),
    "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization",
    2021,
    "International Conference on Learning Representations (ICLR)",
    "2102.07623",
)

JHUNJHUNWALA_2023 = Citation(
    "jhunjhunwala2023fedexp",
    ("Jhunjhunwala, Divyansh", "Wang, Shiqiang", "Joshi, Gauri"),
    "FedExP: Speeding Up Federated Averaging via Extrapolation",
    2023,
    "International Conference on Learning Representations (ICLR)",
    "2301.09604",
)

WANG_2022 = Citation(
    "wang2022communication",
    ("Wang, Yujia", "Lin, Lu", "Chen, Jinghui"),
    "Communication-Efficient Adaptive Federated Learning",
    2022,
    "International Conference on Machine Learning (ICML)",
    "2205.02719",
)

KIM_2024 = Citation(
    "kim2024communication",
    ("Kim, Geeho", "Kim, Jinkyu", "Han, Bohyung"),
    "Communication-Efficient Federated Learning with Accelerated Client Gradient",
    2024,
    "Computer Vision and Pattern Recognition (CVPR)",
    "2201.03172",
)

GAO_2022 = Citation(
    "gao2022feddc",
    (
        "Gao, Liang",
        "Fu, Huazhu",
        "Li, Li",
        "Chen, Yingwen",
        "Xu, Ming",
        "Xu, Cheng-Zhong",
    ),
    "FedDC: Federated Learning with Non-IID Data via Local Drift Decoupling and Correction",
    2022,
    "Computer Vision and Pattern Recognition (CVPR)",
    "2203.11751",
)

XU_2021 = Citation(
    "xu2021fedcm",
    ("Xu, Jing", "Wang, Sen", "Wang, Liwei", "Yao, Andrew Chi-Chih"),
    "FedCM: Federated Learning with Client-Level Momentum",
    2021,
    "",
    "2106.10874",
)

LI_2021_TILTED = Citation(
    "li2021tilted",
    ("Li, Tian", "Beirami, Ahmad", "Sanjabi, Maziar", "Smith, Virginia"),
    "Tilted Empirical Risk Minimization",
    2021,
    "International Conference on Learning Representations (ICLR)",
    "2007.01162",
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

LI_2021_DITTO = Citation(
    "li2021ditto",
    ("Li, Tian", "Hu, Shengyuan", "Beirami, Ahmad", "Smith, Virginia"),
    "Ditto: Fair and Robust Federated Learning Through Personalization",
    2021,
    "International Conference on Machine Learning (ICML)",
    "2012.04221",
)

COLLINS_2021 = Citation(
    "collins2021exploiting",
    ("Collins, Liam", "Hassani, Hamed", "Mokhtari, Aryan", "Shakkottai, Sanjay"),
    "Exploiting Shared Representations for Personalized Federated Learning",
    2021,
    "International Conference on Machine Learning (ICML)",
    "2102.07078",
)

DENG_2020 = Citation(
    "deng2020adaptive",
    ("Deng, Yuyang", "Kamani, Mohammad Mahdi", "Mahdavi, Mehrdad"),
    "Adaptive Personalized Federated Learning",
    2020,
    "",
    "2003.13461",
)

DINH_2020 = Citation(
    "dinh2020personalized",
    ("Dinh, Canh T.", "Tran, Nguyen H.", "Nguyen, Tuan Dung"),
    "Personalized Federated Learning with Moreau Envelopes",
    2020,
    "Advances in Neural Information Processing Systems (NeurIPS)",
    "2006.08848",
)

CALDAROLA_2022 = Citation(
    "caldarola2022improving",
    ("Caldarola, Debora", "Caputo, Barbara", "Ciccone, Marco"),
    "Improving Generalization in Federated Learning by Seeking Flat Minima",
    2022,
    "European Conference on Computer Vision (ECCV)",
    "2203.11834",
)

QU_2022 = Citation(
    "qu2022generalized",
    ("Qu, Zhe", "Li, Xingyu", "Duan, Rui", "Liu, Yao", "Tang, Bo", "Lu, Zhuo"),
    "Generalized Federated Learning via Sharpness Aware Minimization",
    2022,
    "International Conference on Machine Learning (ICML)",
    "2206.02618",
)

SUN_2023 = Citation(
    "sun2023fedspeed",
    ("Sun, Yan", "Shen, Li", "Huang, Tiansheng", "Ding, Liang", "Tao, Dacheng"),
    "FedSpeed: Larger Local Interval, Less Communication Round, and Higher Generalization Accuracy",
    2023,
    "International Conference on Learning Representations (ICLR)",
    "2302.10429",
)

FALLAH_2020 = Citation(
    "fallah2020personalized",
    ("Fallah, Alireza", "Mokhtari, Aryan", "Ozdaglar, Asuman"),
    "Personalized Federated Learning with Theoretical Guarantees: A Model-Agnostic Meta-Learning "
    "Approach",
    2020,
    "Advances in Neural Information Processing Systems (NeurIPS)",
    "2002.07948",
)

LIANG_2020 = Citation(
    "liang2020think",
    (
        "Liang, Paul Pu",
        "Liu, Terrance",
        "Ziyin, Liu",
        "Allen, Nicholas B.",
        "Auerbach, Randy P.",
        "Brent, David",
        "Salakhutdinov, Ruslan",
        "Morency, Louis-Philippe",
    ),
    "Think Locally, Act Globally: Federated Learning with Local and Global Representations",
    2020,
    "",
    "2001.01523",
)

OH_2022 = Citation(
    "oh2022fedbabu",
    ("Oh, Jaehoon", "Kim, Sangmook", "Yun, Se-Young"),
    "FedBABU: Toward Enhanced Representation for Federated Image Classification",
    2022,
    "International Conference on Learning Representations (ICLR)",
    "2106.06042",
)

CAO_2021 = Citation(
    "cao2021fltrust",
    ("Cao, Xiaoyu", "Fang, Minghong", "Liu, Jia", "Gong, Neil Zhenqiang"),
    "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping",
    2021,
    "Network and Distributed System Security Symposium (NDSS)",
    "2012.13995",
)

YE_2023 = Citation(
    "ye2023feddisco",
    ("Ye, Rui", "Xu, Mingkai", "Wang, Jianyu", "Xu, Chenxin", "Chen, Siheng", "Wang, Yanfeng"),
    "FedDisco: Federated Learning with Discrepancy-Aware Collaboration",
    2023,
    "International Conference on Machine Learning (ICML)",
    "2305.19229",
)

GHOSH_2020 = Citation(
    "ghosh2020efficient",
    ("Ghosh, Avishek", "Chung, Jichan", "Yin, Dong", "Ramchandran, Kannan"),
    "An Efficient Framework for Clustered Federated Learning",
    2020,
    "Advances in Neural Information Processing Systems (NeurIPS)",
    "2006.04088",
)
